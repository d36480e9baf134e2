load common
export STRATA_MODEL=$TINY

# What disks, streams, gnuplot and other programs may do to a run: one clear line, exit status 1, nothing half under a
# final name, nothing stray. faults.bats fails single calls instead.

setup_file() {
    export FACTS=$BATS_FILE_TMPDIR/facts.jsonl LENS=$BATS_FILE_TMPDIR/lens.h5 STRATA PROMPT
    cat "$ROOT"/data/facts/[a-c]*.jsonl >"$FACTS"
    "$STRATA" lens -i "$FACTS" --limit 5 --quiet -o "$LENS"
}

# on_disk SIZE SCRIPT: runs the script where ./disk is a file system of its own, of that size.
on_disk() {
    local new="unshare -m"
    [ "$(id -u)" = 0 ] || new="unshare -rm"
    mkdir -p disk
    $new mount -t tmpfs none disk 2>/dev/null || skip "no file system may be mounted here"
    run --separate-stderr $new bash -c "mount -t tmpfs -o size=$1 none disk || exit 99; $2" </dev/null
}

# Output and command, of every kind of output. Words of a command hold no spaces.
each_output() {
    printf '%s\n' "l.h5 lens -i $FACTS --positions all" "l.csv lens -i $FACTS --positions all" \
        "l.json lens -i $FACTS --positions all" "r.json run -i $FACTS" "k.h5 knockout -i $FACTS --all --limit 300" \
        "k knockout -i $FACTS --all --limit 9 --no-plots" "h.h5 heads -i $FACTS --all --limit 2 --no-patterns" \
        "t trace Paris --answer London --no-plots" "c curves $LENS" "d.h5 dump -i $FACTS --sites z"
}

# only_kept [NAME...]: the files of $output, one a line, are what may be left behind.
only_kept() {
    ! grep -vE '(\.partial|\.journal)$' <<<"$output" | grep . || { echo "left: $output"; return 1; }
}

@test "a full disk: each kind of output" {
    while read -r name words; do
        on_disk 16k "\"\$STRATA\" $words --quiet -o disk/$name >said; status=\$?; cd disk; find . -type f; exit \$status"
        echo "$name: $status $stderr"
        expect 1
        one_line
        [[ $stderr == *"disk/$name"*": cannot "*": No space left on device"* || $stderr == *"disk/$name: needs"*" free:"* ]]
        case $name in
        k | t | c) refute grep -E 'report.html|index.html|tmp-|starting|lock' <<<"$output" ;;
        *) only_kept ;;
        esac
    done < <(each_output)
}

@test "a full disk: what was flushed goes on when there is room" {
    "$STRATA" lens -i "$FACTS" --positions all --quiet -o whole.h5
    on_disk 400k '"$STRATA" knockout -i "$FACTS" --all --limit 300 -t 1 -o disk/k.h5 --quiet &&
        "$STRATA" lens -i "$FACTS" --positions all --quiet -o disk/l.h5; status=$?
        mount -o remount,size=64m disk
        "$STRATA" lens -i "$FACTS" --positions all --quiet -o disk/l.h5 --resume && ls disk && mv disk/l.h5 l.h5
        exit $status'
    expect 1 "No space left on device"
    one_line
    [ "$output" = $'k.h5\nl.h5' ]
    same_h5 l.h5 whole.h5 /lens /prompts /rows /layers
}

@test "no space for pictures: half a picture is none" {
    command -v gnuplot >/dev/null || skip "gnuplot is not installed"
    on_disk 200k '"$STRATA" curves "$LENS" -o disk/c --quiet >said; status=$?; cd disk/c; ls
        for name in $(find . -name "*.svg"); do grep -q "</svg>" $name || echo half $name; done
        for name in $(find . -name "*.png"); do grep -qa IEND $name || echo half $name; done
        exit $status'
    expect 1 "gnuplot has not written it whole: make room"
    one_line
    [[ $output == *curves.csv* && $output == *rank.dat* && $output != *half* && $output != *index.html* ]]
}

@test "a read-only folder" {
    while read -r name words; do
        on_disk 32m "mount -o remount,ro disk; \"\$STRATA\" $words --quiet -o disk/$name >said"
        echo "$name: $status $stderr"
        expect 1 "disk/$name: cannot" "Read-only file system"
        one_line
    done < <(each_output)
}

@test "a limit on the size of files, as a quota" {
    while read -r name words; do
        [ $name != c ] || continue # smaller
        run --separate-stderr bash -c "ulimit -f 2; exec \"\$STRATA\" $words --quiet -o $name"
        echo "$name: $status $stderr"
        expect 1 "$name" "File too large"
        one_line
        output=$(find . -type f)
        [[ $name == [kt] ]] || only_kept
        rm -rf ./*
    done < <(each_output)
    run --separate-stderr bash -c 'ulimit -f 2; exec "$STRATA" sites >out'
    expect 1 "standard output: cannot write: File too large"
    one_line
}

@test "streams that are closed" {
    "$STRATA" lens -i "$FACTS" --limit 3 -o whole.csv --quiet
    "$STRATA" lens -i "$FACTS" --limit 3 -o l.csv <&- >&- 2>&-
    cmp l.csv whole.csv
    # Nothing that is meant for the missing stream gets into a file.
    run bash -c '"$STRATA" lens -i "$FACTS" --limit 3 -o k.csv --site nosuch 2>&-'
    [ "$status" -eq 2 ]
    [ -z "$output" ]
    [ ! -e k.csv ]
    run --separate-stderr bash -c '"$STRATA" lens -i - -o m.csv --quiet <&-'
    expect 1 "standard input"
    one_line
    [ "$(ls)" = $'l.csv\nwhole.csv' ]
}

# gnuplot_is SCRIPT: a gnuplot of ours, and curves with it.
gnuplot_is() {
    mkdir -p bin
    printf '#!/bin/sh\n%s\n' "$1" >bin/gnuplot
    chmod +x bin/gnuplot
    rm -rf c
    PATH=$PWD/bin:$PATH strata curves "$LENS" -o c
}

@test "a gnuplot that fails, dies or talks: a note, and the numbers are there" {
    gnuplot_is 'exit 1'
    expect 0 "c/rank.gp: not drawn, gnuplot failed with status 1"
    one_line
    gnuplot_is 'echo "<svg" >rank.svg; kill -KILL $$'
    expect 0 "c/rank.gp: not drawn, gnuplot was stopped by signal 9"
    one_line
    gnuplot_is 'head -c 300000 /dev/urandom >&2; head -c 300000 /dev/urandom; exit 3'
    expect 0 "c/rank.gp: not drawn, gnuplot says: "
    one_line
    iconv -f utf-8 -t utf-8 <<<"$stderr" >/dev/null
    [ -s c/curves.csv ]
    [ -s c/rank.dat ]
    [ -s c/index.html ]
    [ -z "$(find c -name '*.svg' -o -name '*.png')" ]
}

@test "a gnuplot that hangs ends with Ctrl-C" {
    mkdir bin
    printf '#!/bin/sh\ntouch started\nexec sleep 100\n' >bin/gnuplot
    chmod +x bin/gnuplot
    # A terminal interrupts the whole process group.
    SECONDS=0
    run timeout 60 bash -c 'set -m
        PATH=$PWD/bin:$PATH "$STRATA" curves "$LENS" -o c >out 2>err &
        pid=$!
        until [ -e c/started ]; do sleep 0.05; done
        kill -INT -- -$pid
        wait $pid'
    [ "$status" -eq 130 ]
    [ $SECONDS -lt 30 ]
    grep -q "^strata: interrupted: c has the numbers, but not all figures: run the command again" err
    [ "$(wc -l <err)" -eq 1 ]
    [ -s c/curves.csv ]
    [ -s c/rank.dat ]
    [ -z "$(find c -name '*.svg' -o -name '*.png')" ]
}

@test "without fc-list a figure is drawn all the same" {
    command -v gnuplot >/dev/null || skip "gnuplot is not installed"
    mkdir bin
    ln -s "$(command -v gnuplot)" /bin/sh bin/
    run --separate-stderr env PATH="$PWD/bin" "$STRATA" trace -m "$TINY" "東京 is in" --answer Japan -o t
    expect 0
    [ -s t/rank.svg ]
    [ -s t/rank.png ]
    [ -s t/report.html ]
}

@test "an output that another process writes" {
    for words in "lens -i $FACTS --limit 2" "knockout -i $FACTS --limit 2 --all"; do
        exec 9>o.h5.lock
        flock 9
        strata $words -o o.h5 --quiet
        exec 9>&-
        expect 1 "o.h5: another process is writing it"
        one_line
        [ ! -e o.h5 ]
        rm o.h5.lock
    done
}

@test "an output that is read by the same command is refused" {
    head -n 2 "$FACTS" >f.json
    cp f.json kept
    cp "$LENS" lens.csv
    ln -s f.json link.json
    ln f.json hard.json
    for name in f.json ./f.json link.json hard.json; do
        strata lens -i f.json -o $name
        expect 2 "-o $name: is read by the same command"
        one_line
    done
    strata curves lens.csv -o lens.csv
    expect 2 "is read by the same command"
    strata trace -m "$TINY" Paris --answer London -o "$TINY"
    expect 2 "is read by the same command"
    cmp f.json kept
    cmp lens.csv "$LENS"
}

@test "an output that is there: a folder, a link, a device" {
    mkdir folder.h5 folder.csv
    for name in folder.h5 folder.csv; do
        strata lens -i "$FACTS" --limit 2 -o $name
        expect 1 "$name: "
        strata knockout -i "$FACTS" --limit 2 --all -o $name
        expect 1 "$name: is a folder: choose another output"
        rmdir $name
    done
    # A link is replaced (SECURITY.md), also one that leads nowhere.
    ln -s nowhere dangling.csv
    echo precious >file
    ln -s file link.csv
    for name in dangling.csv link.csv; do
        strata lens -i "$FACTS" --limit 2 --quiet -o $name
        expect 0
        [ -f $name ]
        [ ! -L $name ]
        [ "$(wc -l <$name)" -gt 2 ]
    done
    [ "$(cat file)" = precious ]
    [ ! -e nowhere ]
    ln -s nowhere dangling
    strata trace Paris --answer London -o dangling
    expect 1 "dangling: is there already and is no folder"
    strata lens -i "$FACTS" --limit 2 --quiet -o /dev/null
    expect 0
    [ -c /dev/null ]
    strata trace Paris --answer London -o /dev/null
    expect 1 "/dev/null: is there already and is no folder"
    strata dump -i "$FACTS" --sites z -o /dev/null
    expect 2 "/dev/null: a dump is an .h5 file"
}

@test "an output folder that vanishes during the run" {
    gnuplot_is 'rm -rf "$PWD"'
    expect 1 "strata: c/"
    one_line
}
