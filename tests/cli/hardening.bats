load common

# What tests/cli cannot see from outside: how the program was linked. Sanitized builds are not meant for use.
needs_a_plain_build() {
    command -v readelf >/dev/null || skip "no readelf here"
    not_under_asan "a sanitized build"
}

# hardened FILE: prints what is missing.
hardened() {
    local elf
    elf=$(readelf -W -h -l -d -n --dyn-syms "$1" 2>/dev/null)
    grep -qE 'Type: *DYN' <<<"$elf" || echo "no position-independent program"
    grep -q 'GNU_RELRO' <<<"$elf" || echo "no RELRO"
    grep -qE 'BIND_NOW|FLAGS.*NOW' <<<"$elf" || echo "symbols are bound late: RELRO is partial"
    grep -E 'GNU_STACK' <<<"$elf" | grep -q E && echo "the stack is executable"
    grep -qE 'RWE' <<<"$elf" && echo "a segment is writable and executable"
    grep -q '__stack_chk_fail' <<<"$elf" || echo "no stack protector"
    grep -qE '__(memcpy|snprintf|vsnprintf)_chk' <<<"$elf" || echo "no _FORTIFY_SOURCE"
    grep -qE 'R(UN)?PATH' <<<"$elf" && echo "libraries are looked for in a folder of its own"
    return 0
}

@test "the program is hardened" {
    needs_a_plain_build
    run hardened "$STRATA"
    [ -z "$output" ] || { echo "$output"; return 1; }
}

@test "the check sees a program that is not" {
    command -v readelf >/dev/null || skip "no readelf here"
    echo 'int main(void) { return 0; }' >soft.c
    ${CC:-cc} -no-pie -fcf-protection=none -Wl,-z,norelro,-z,lazy,-z,execstack,-rpath,/nowhere -o soft soft.c 2>/dev/null ||
        ${CC:-cc} -no-pie -Wl,-z,norelro,-z,lazy,-z,execstack,-rpath,/nowhere -o soft soft.c
    run hardened soft
    for text in "no position-independent" "no RELRO" "bound late" "executable" "no stack protector" "no _FORTIFY_SOURCE" "folder of its own"; do
        [[ $output == *"$text"* ]] || { echo "lacks '$text': $output"; return 1; }
    done
}

@test "jumps of every object are marked (the C library's start files may not be)" {
    needs_a_plain_build
    [ "$(uname -m)" = x86_64 ] || skip "for x86-64"
    library=$(dirname "$STRATA")/libstrata.a
    [ "$(readelf -nW "$library" 2>/dev/null | grep -c 'IBT, SHSTK')" -eq "$(ar t "$library" | wc -l)" ]
}

@test "no socket is ever opened: the program has no call for it" {
    needs_a_plain_build
    run bash -c 'readelf -W --dyn-syms "$1" | grep -E " UND (socket|connect|getaddrinfo|gethostbyname)"' - "$STRATA"
    [ "$status" -ne 0 ]
}
