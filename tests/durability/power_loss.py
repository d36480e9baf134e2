#!/usr/bin/env python3
"""Records what Strata asks of the file system (strace) and plays it to a disk that keeps only what it has to.

    tests/durability/power_loss.py [--losses 40] [--seed N] dump shards lens csv knockout each figures

The order, for each name that a finished run leaves behind: the file is written under another name, fsync, rename, fsync
of the folder; nothing is opened for writing under its final name; all of it before the program ends, and before the
journal goes that an interrupted run would need.

Then the power goes, at moments around each flush and rename and at random ones. The disk has what was flushed; of the
rest it has nothing, everything, or any choice of pages and names. What is there then must be old or whole, partial files
must open and hold whole prompts, and --resume must make the files of a run that was never interrupted, byte for byte.

    --without file-fsync|folder-fsync|data-fsync|draft       leaves that out of the recording: it must be found
"""
import argparse, collections, pathlib, random, re, shutil

from torture import Run, build_options, check_what_is_there, empty, fail, make_folder, same_tree

CALLS = ("openat,open,creat,write,pwrite64,writev,pwritev,ftruncate,truncate,fallocate,copy_file_range,sendfile,rename,"
         "renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,fsync,fdatasync,exit_group")
PAGE = 4096


# --- the recording ---

def text(hexadecimal):
    return bytes.fromhex(hexadecimal.replace("\\x", ""))


def joined(lines):
    """Calls that another thread interrupted are written in two pieces."""
    begun = {}
    for line in lines:
        pid, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            begun[pid] = rest[:-len("<unfinished ...>")]
        elif rest.startswith("<... "):
            yield pid, begun.pop(pid) + rest[rest.index("resumed>") + len("resumed>"):]
        else:
            yield pid, rest


def record(run):
    """[(call, path, path or data, offset)] below the run's folder, in order."""
    log, root = run.work / "strace", run.here
    command, run.command = run.command, ["strace", "-f", "-y", "-xx", "-s", "100000000", "-e", "trace=" + CALLS, "-e",
                                         "signal=none", "-o", str(log)] + run.command
    status = run.start(run.here).wait()
    run.command = command
    if status:
        fail(run, "cannot run under strace: " + (run.work / "said").read_text())
    ops = []
    for pid, line in joined(log.read_text(errors="replace").splitlines()):
        call = re.match(r"(\w+)\((.*)\)\s+= (-?\d+)", line, re.S)
        if call and int(call[3]) >= 0:
            ops += read_call(run, call[1], call[2], root)
    log.unlink()
    return ops


def read_call(run, name, arguments, root):
    """The operations of one call, with paths relative to root; none where it is about something else."""
    def below(path):
        path = pathlib.Path(path.decode())
        path = path if path.is_absolute() else root / path
        return str(path.relative_to(root)) if path.is_relative_to(root) else None
    strings = [text(s) for s in re.findall(r'"((?:\\x..)*)"', arguments)]
    files = [text(s) for s in re.findall(r"\d+<((?:\\x..)*)>", arguments)]
    if name in ("openat", "open", "creat"):
        at = text(re.match(r"AT_FDCWD<((?:\\x..)*)>", arguments)[1]).decode()
        path = below(str(pathlib.Path(at) / strings[0].decode()).encode())
        writes = "O_WRONLY" in arguments or "O_RDWR" in arguments
        if path is None or not writes or "O_TMPFILE" in arguments:
            return []
        return [("open", path, "O_CREAT" in arguments, "O_TRUNC" in arguments)]
    if name in ("rename", "unlink", "mkdir"):
        paths = [below(s) for s in strings]
        return [] if None in paths else [(name, *paths)]
    path = below(files[0]) if files else None
    if path is None or path.endswith(" (deleted)") or re.match(r"#\d+$", pathlib.Path(path).name):
        return []  # without a name (O_TMPFILE), or no longer with one
    if name in ("write", "pwrite64"):
        return [("write", path, strings[0], int(arguments.rsplit(", ", 1)[1]) if name == "pwrite64" else None)]
    if name == "ftruncate":
        return [("truncate", path, int(arguments.rsplit(", ", 1)[1]))]
    if name in ("fsync", "fdatasync"):
        return [("sync", path, name)]
    fail(run, f"{name} of {path}: the checker does not know that call")


# --- the disk ---

class Inode:
    def __init__(self, data=b""):
        self.kept, self.pending, self.data, self.at = bytearray(data), [], bytearray(data), 0

    def change(self, offset, data, size=None):
        apply(self.data, offset, data, size)
        for begin in range(0, max(1, len(data)), PAGE):  # a disk takes pages, in any order
            self.pending.append((offset + begin, bytes(data[begin:begin + PAGE]), size))

    def sync(self):
        self.kept, self.pending = bytearray(self.data), []


def apply(to, offset, data, size):
    if size is not None:
        del to[size:]
        to.extend(bytes(size - len(to)))
        return
    if len(to) < offset:
        to.extend(bytes(offset - len(to)))
    to[offset:offset + len(data)] = data


def folder_of(path):
    return str(pathlib.Path(path).parent)


class Disk:
    """Names and bytes as the program sees them, and as the disk has them for certain."""

    def __init__(self, folder):
        self.names, self.kept_names, self.pending = {}, {}, collections.defaultdict(list)
        self.folders = {".": True}  # made for certain?
        for path in folder.rglob("*"):
            self.names[str(path.relative_to(folder))] = Inode(path.read_bytes())
        self.kept_names = dict(self.names)

    def note(self, folder, *entries):
        """One change of a folder: (name, inode, or None: gone)."""
        for name, inode in entries:
            self.names.pop(name, None) if inode is None else self.names.__setitem__(name, inode)
        self.pending[folder].append(entries)

    def play(self, op):
        name, path = op[0], op[1]
        if name == "open":
            if path not in self.names:
                self.note(folder_of(path), (path, Inode()))
            self.names[path].at = 0
            if op[3] and self.names[path].data:
                self.names[path].change(0, b"", 0)
        elif name == "write":
            inode = self.names[path]
            at = inode.at if op[3] is None else op[3]
            inode.change(at, op[2])
            inode.at = at + len(op[2])
        elif name == "truncate":
            self.names[path].change(0, b"", op[2])
        elif name == "rename":
            self.note(folder_of(op[2]), (path, None), (op[2], self.names[path]))
        elif name == "unlink":
            self.note(folder_of(path), (path, None))
        elif name == "mkdir":
            self.note(folder_of(path), (path, "folder"))
        elif path in self.names and self.names[path] != "folder":
            self.names[path].sync()
        else:
            for entries in self.pending.pop(path, []):
                self.keep(self.kept_names, entries)

    @staticmethod
    def keep(names, entries):
        for name, inode in entries:
            names.pop(name, None) if inode is None else names.__setitem__(name, inode)

    def lose_power(self, folder, choose):
        """What is there afterwards; choose() says of each thing that was not flushed whether it is."""
        names = dict(self.kept_names)
        for changes in self.pending.values():
            for entries in changes:
                if choose():
                    self.keep(names, entries)
        empty(folder)
        for name, inode in sorted(names.items()):
            if inode == "folder":
                if (folder / name).parent.is_dir():
                    (folder / name).mkdir()
                continue
            data = bytearray(inode.kept)
            for change in inode.pending:
                if choose():
                    apply(data, *change)
            if (folder / name).parent.is_dir():
                (folder / name).write_bytes(data)


# --- the order ---

EXTENTS_OF_8_BYTES = {"dump", "shards", "lens"}  # and nothing else of theirs, once there is a partial file

def check_order(run, ops, final, start):
    """Of every name that stays."""
    disk, counted = Disk(start), set()
    for op in ops:
        if op[0] == "write" and op[1].endswith(".partial") and run.kind in EXTENTS_OF_8_BYTES:
            if len(op[2]) == 8:
                counted.add(op[1])
            elif op[1] in counted:
                fail(run, f"{op[1]}: what is whole is not flushed before the run goes on")
        if op[0] == "sync":
            counted.discard(op[1])
        if op[0] == "open" and op[1] in final:
            fail(run, f"{op[1]} is opened for writing under its final name")
        if op[0] == "rename" and disk.names[op[1]].pending:
            fail(run, f"{op[1]} is renamed to {op[2]} before all of it is flushed")
        if op[0] == "rename" and folder_of(op[1]) != folder_of(op[2]):
            fail(run, f"{op[1]} is renamed into another folder: {op[2]}")
        if op[0] == "unlink" and op[1].endswith(".journal"):
            check_names_kept(run, disk, final, f"the journal {op[1]} goes")
        disk.play(op)
    check_names_kept(run, disk, final, "the program ends")
    missing = final - disk.names.keys()
    if missing:
        fail(run, f"{missing} came by no call that the checker knows")


def check_names_kept(run, disk, final, event):
    late = sorted({name for changes in disk.pending.values() for entries in changes for name, inode in entries
                   if inode is not None and name in final})
    if late:
        fail(run, f"{late[0]}: its folder is not flushed before {event}")


# --- losses ---

def moments(ops, rng, most):
    """After how many operations the power goes: around flushes and names, else anywhere."""
    near = sorted({i + k for i, op in enumerate(ops) if op[0] not in ("write", "open") for k in (0, 1)})
    chosen = rng.sample(near, min(len(near), most * 2 // 3))
    chosen += rng.sample(range(len(ops) + 1), min(len(ops), most - len(chosen)))
    return sorted(set(chosen) | {len(ops)})


def check_losses(run, ops, start, old, rng, most):
    tally = collections.Counter()
    points = moments(ops, rng, most)
    disk, done = Disk(start), 0
    for point in points:
        for op in ops[done:point]:
            disk.play(op)
        done = point
        for name, share in (("nothing", 0), ("everything", 1), ("any of it", rng.random())):
            disk.lose_power(run.here, lambda share=share: rng.random() < share)
            tally["power losses"] += 1
            for path in run.here.rglob("*.csv"):
                if path.read_bytes() == old:
                    path.unlink()  # the file of before, whole
            check_what_is_there(run, tally, partial_texts=False)
            if point == len(ops) and name == "nothing":
                for path in [p for p in run.here.rglob("*") if p.suffix in (".lock", ".journal")]:
                    path.unlink()  # that removal needs no flush: the result is there
                same_tree(run, run.here, run.work / "whole")
        if run.start(run.here).wait():
            fail(run, f"--resume after operation {point} of {len(ops)}: " + (run.work / "said").read_text())
        same_tree(run, run.here, run.work / "whole")
        tally["resumed to the same bytes"] += 1
    return tally


LEFT_OUT = {"file-fsync": lambda op: op[0] == "sync" and op[2] == "fsync" and "." in pathlib.Path(op[1]).name[1:],
            "folder-fsync": lambda op: op[0] == "sync" and op[2] == "fsync" and "." not in pathlib.Path(op[1]).name[1:],
            "data-fsync": lambda op: op[0] == "sync" and op[2] == "fdatasync"}


def check(kind, options, rng, work):
    run = Run(kind, options, work)
    old = b"an older file\n"
    if kind == "csv":
        (run.here / run.output).write_bytes(old)
    shutil.copytree(run.here, work / "start")
    ops = record(run)
    same_tree(run, run.here, run.work / "whole")
    final = {str(path.relative_to(run.here)) for path in run.here.rglob("*") if path.is_file()}
    if options.without == "draft":
        ops = [tuple(w.removesuffix(".tmp") if isinstance(w, str) else w for w in op) for op in ops]
        ops = [op for op in ops if op[0] != "rename" or op[1] != op[2]]
    elif options.without:
        ops = [op for op in ops if not LEFT_OUT[options.without](op)]
    if not options.losses_only:
        check_order(run, ops, final, work / "start")
    tally = check_losses(run, ops, work / "start", old, rng, options.losses)
    renames = sum(op[0] == "rename" for op in ops)
    print(f"{kind}: {len(ops)} operations, {renames} renames in order, "
          + ", ".join(f"{n} {what}" for what, n in sorted(tally.items())), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+")
    parser.add_argument("--losses", type=int, default=40, help="moments at which the power goes, of each kind (40)")
    parser.add_argument("--without", choices=[*LEFT_OUT, "draft"], help="plants a fault")
    parser.add_argument("--losses-only", action="store_true", help="do not look at the order first")
    options, seed = build_options(parser)
    work = make_folder("strata-power-")
    try:
        for kind in options.kinds:
            (work / kind).mkdir()
            check(kind, options, random.Random(f"{seed} {kind}"), work / kind)
    finally:
        if not options.keep:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
