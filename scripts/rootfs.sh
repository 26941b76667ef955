#!/usr/bin/env bash
# A small file system out of Debian packages, where no base image can be pulled.
#
#   scripts/rootfs.sh [--no-deps] DIR PACKAGE...
#
# Fetches the packages and all that they depend on (--no-deps: only those named), unpacks them into DIR, which is made
# anew, and does the few things that are needed of what their scripts would do. The scripts themselves do not run, so this
# takes seconds; the release is the host's. Needs Debian, root, and `apt-get update` to have been run.
set -euo pipefail

closure=true
if [[ ${1:-} == --no-deps ]]; then closure=false; shift; fi
(($# >= 2)) || { echo "usage: rootfs.sh [--no-deps] DIR PACKAGE..." >&2; exit 64; }
root=$1; shift

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/debs/partial"
: > "$work/status" # apt is to believe that nothing is installed
if $closure; then
  apt-get -qq -y -o Dir::State::status="$work/status" -o Dir::Cache::archives="$work/debs" -o APT::Sandbox::User=root \
    --no-install-recommends --download-only install "$@" > /dev/null
else
  (cd "$work/debs" && apt-get -qq -o APT::Sandbox::User=root download "$@")
fi

rm -rf "$root"
mkdir -p "$root"/{etc,proc,sys,dev,run,root,var/lib/dpkg/status.d,usr/bin,usr/sbin,usr/lib}
install -d -m 1777 "$root/tmp" "$root/var/tmp"
ln -s /run "$root/var/run"
# Packages still name files in /bin and /lib; the links must be there before the first is unpacked.
for dir in bin sbin lib; do ln -s "usr/$dir" "$root/$dir"; done
if [[ -e /lib64 ]]; then mkdir -p "$root/usr/lib64"; ln -s usr/lib64 "$root/lib64"; fi
for deb in "$work"/debs/*.deb; do
  dpkg-deb --fsys-tarfile "$deb" |
    tar -x -C "$root" --keep-directory-symlink --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
      --exclude='./usr/share/locale/*' --exclude='./usr/share/info/*' --exclude='./usr/share/lintian/*'
  # What may not be left out of what is given to others: whose it is, and under which terms.
  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink --wildcards './usr/share/doc/*/copyright' 2> /dev/null || true
  # What is installed, where distroless' images have it, and scanners look for it.
  name=$(dpkg-deb -f "$deb" Package)
  dpkg-deb -f "$deb" > "$root/var/lib/dpkg/status.d/$name"
  dpkg-deb -I "$deb" md5sums > "$root/var/lib/dpkg/status.d/$name.md5sums" 2> /dev/null || rm "$root/var/lib/dpkg/status.d/$name.md5sums"
done

cat > "$root/etc/passwd" <<'PASSWD'
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/usr/sbin/nologin
nonroot:x:65532:65532:nonroot:/:/usr/sbin/nologin
PASSWD
printf 'root:x:0:\nnogroup:x:65534:\nnonroot:x:65532:\n' > "$root/etc/group"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
if [[ -d $root/usr/share/ca-certificates/mozilla ]]; then
  mkdir -p "$root/etc/ssl/certs"
  cat "$root"/usr/share/ca-certificates/mozilla/*.crt > "$root/etc/ssl/certs/ca-certificates.crt"
fi
if [[ -e $root/usr/sbin/xtables-nft-multi ]]; then
  for tool in {iptables,ip6tables}{,-save,-restore}; do ln -sf xtables-nft-multi "$root/usr/sbin/$tool"; done
fi
ldconfig -r "$root"
rm -f "$root/var/cache/ldconfig/aux-cache" # inodes and times of this machine
