#!/bin/sh
# Make a virtual environment with the first Python found that this project runs on. Usage: make_venv.sh FOLDER
set -eu

folder=$1

fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

# PYTHON=... on make's command line comes first. A name that exists may still not run, so each is tried.
for python in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if fits "$python"; then
        echo "Making $folder with $("$python" --version) ($(command -v "$python"))"
        "$python" -m venv "$folder" && exit 0
        rm -rf "$folder"
        echo "This Python cannot make a virtual environment; on Debian and Ubuntu install python3-venv." >&2
        exit 1
    fi
done

found=$(python3 --version 2>/dev/null || echo "no python3")
echo "Nightdesk needs Python 3.11, 3.12 or 3.13; here is $found, and no python3.13, python3.12 or python3.11." >&2
echo "Install one of them, or name it: make PYTHON=/path/to/python3.12 ..." >&2
exit 1
