#!/bin/sh
# Brings lwIP's source into lwip/: the git submodule, else Debian's source package of the same release.
#
# The Debian archive is taken with private apt folders (no root needed); its deb-src line is derived from
# the machine's own apt configuration, and its SHA-256 is checked before anything is unpacked.
set -eu

SUITE=trixie
ARCHIVE=lwip_2.2.1+dfsg1.orig.tar.xz
SHA256=83729c274c499d3348e9fbbe043a3113f3fa8953e7efddc7c21c7fcbb1f2b7b1

cd "$(dirname "$0")/.."
if [ -f lwip/src/Filelists.mk ]; then
    exit 0
fi

if [ -e .git ] && timeout 60 git -c http.lowSpeedTime=10 -c http.lowSpeedLimit=1 \
        submodule update --init --depth 1 lwip >/dev/null 2>&1 && [ -f lwip/src/Filelists.mk ]; then
    echo "lwIP: from the git submodule"
    exit 0
fi

command -v apt-get >/dev/null || {
    echo "lwIP: the submodule cannot be reached and there is no apt-get; put lwIP 2.2.1 into lwip/" >&2
    exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/empty"
# The first plain Debian archive that this machine's apt knows serves the source package too.
uri=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
    sed -n 's#^\([^ ]*/debian/\{0,1\}\) .*#\1#p' | head -n 1)
[ -n "$uri" ] || {
    echo "lwIP: no Debian archive is configured for apt on this machine" >&2
    exit 1
}
keyring=$(ls /usr/share/keyrings/debian-archive-keyring.* 2>/dev/null | head -n 1)
echo "deb-src ${keyring:+[signed-by=$keyring]} $uri $SUITE main" >"$work/sources.list"

own_apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts="$work/empty" \
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User="" \
        -o Debug::NoLocking=1 "$@"
}
own_apt update
(cd "$work" && own_apt source --download-only lwip)

echo "$SHA256  $work/$ARCHIVE" | sha256sum --check --quiet
mkdir -p lwip
tar -C lwip --strip-components=1 -xf "$work/$ARCHIVE"
echo "lwIP: from Debian's source package, checksum verified"
