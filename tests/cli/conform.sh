#!/bin/bash
# conform.sh - file system calls on a forwarded directory give what they give on the host's own: results, errors, what they leave
#
# tests/conform is run twice, by an ordinary user and by root: on a directory of its own file system, and, forwarded, on one that only the
# host has (tests/intercept/forward_host.c).  What it prints is compared; wrong data it finds by itself.
. tests/tap.sh
. tests/forward.bash
forward_needs "conformance of forwarding"
P=$TMP/p/host EXECUTORS=4 conform=$TMP/conform
chmod 755 "$TMP"
cp "$(dirname "$dir")/conform/conform" "$conform"

same() { # same USER PART [SEED [COUNT]]
	local user=$1 what="$2 of user $1${3:+, seed $3}"
	shift
	rm -rf "$TMP/p" "$root"
	mkdir -p "$P" "$root$TMP/p"
	chown "$user" "$P"
	timeout 250 "$conform" -u "$user" "$P" "$@" >"$TMP/want" 2>&1 </dev/null
	echo "status $?" >>"$TMP/want"
	rm -rf "$P"
	mkdir "$root$P"
	chown "$user" "$root$P"
	DS_FORWARD_USER=$user forwarded timeout 250 "$conform" -u "$user" "$P" "$@" >"$TMP/got" 2>&1 </dev/null
	echo "status $?" >>"$TMP/got"
	cmp -s "$TMP/want" "$TMP/got"
	ok $? "$what: $(wc -l <"$TMP/want") lines are the same with and without forwarding"
	diff "$TMP/want" "$TMP/got" | head -n 20 | sed 's/^/# /'
}
# Of thousands some hundreds, drawn by lot; CONFORM_ALL=1: all (make check-conform).
names=400 pairs=200 data=1500 seeds='1 2'
if [ -n "${CONFORM_ALL:-}" ]; then names=0 pairs=0 data=20000 seeds=$(seq 8); fi
for user in 65534 0; do
	same $user names 1 $names
	matches "$(wc -l <"$TMP/want")" '^[0-9]{3}' "all of them were tried"
	same $user pairs 1 $pairs
	same $user times
done
for seed in $seeds; do
	same 65534 data "$seed" $data
	is "$(grep wrong "$TMP/want")" "0 wrong" "the model agrees with this machine's own file system"
done
tap_done
