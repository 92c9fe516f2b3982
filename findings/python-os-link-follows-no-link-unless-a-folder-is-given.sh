#!/usr/bin/env bash
# What: os.link(source, target, follow_symlinks=True), which is the default, makes a second name of the symbolic link itself; with
#       src_dir_fd or dst_dir_fd it follows the link, as documented.
# Seen: Python 3.11.7, glibc 2.36, Linux 6.18; no packages. So os.link cannot give a file without a name one
#       by its /proc/self/fd/N without a folder: EXDEV. With src_dir_fd the same call works.
# Why:  without a folder Python calls link(2), which on Linux does not follow; with one it calls linkat(2) with AT_SYMLINK_FOLLOW.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat >judge.py <<'PY'
import errno
import os

open("file", "w").write("x")
os.symlink("file", "link")
os.link("link", "plain")
here = os.open(".", os.O_PATH | os.O_DIRECTORY)
os.link("link", "with-folder", src_dir_fd=here)
print("plain is a symbolic link:", os.path.islink("plain"))
print("with-folder is a symbolic link:", os.path.islink("with-folder"))
assert os.path.islink("plain") and not os.path.islink("with-folder")
kept = os.open("file", os.O_RDONLY)
for options in ({}, {"src_dir_fd": here}):
    try:
        os.link(f"/proc/self/fd/{kept}", "again", **options)
        outcome = "linked"
    except OSError as error:
        outcome = errno.errorcode[error.errno]
    print(f"/proc/self/fd/N with {options or 'no folder'}: {outcome}")
    assert outcome == ("linked" if options else "EXDEV")
PY
python3 judge.py
echo "as described"
