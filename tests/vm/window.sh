#!/bin/bash
# window.sh - files of the host that a guest's programs map: the device window of a stock VM, from end to end
#
# tests/tools/mapped maps a file in many ways and says what it sees; here on the file itself, then in the guest by dsrun --forward.
# What it prints is compared.  WINDOW_ONLY: a pattern of cases to run; DS_VM_KERNEL, DS_VM_EMULATOR, DS_VM_MACHINE choose another configuration.
. tests/tap.sh
. tests/vm/relay.bash
. tests/vm/shadowed.bash
shadowed_needs "files of the host mapped in a guest"
mapped=$(dirname "$BIN")/tests/tools/mapped
chmod 755 "$TMP"
mkdir "$TMP/want" "$TMP/data"
cases=(shared parts refused private cut buffers fork heir orphan grow odd)
file() { python3 -c 'import sys; sys.stdout.buffer.write(b"".join(bytes([i]) * 4096 for i in range(64)))' >"$1"; }
for c in "${cases[@]}"; do
	file "$TMP/data/$c"
	timeout 60 "$mapped" "$c" "$TMP/data/$c" >"$TMP/want/$c" 2>&1
	is $? 0 "$c: on the host itself"
	file "$TMP/data/$c"
done
for c in ping many held much waits speed lent again; do file "$TMP/data/$c"; done
chown -R 65534:65534 "$TMP/data"

cat >"$TMP/policy" <<EOT2
allow vm=one program=**/mapped service=forward executors=4 memory=16M path=/mnt/data:$TMP/data:rw
allow vm=one program=/usr/bin/** service=forward executors=4 memory=16M path=/mnt/data:$TMP/data:rw
EOT2
shadowed_serve "$TMP" --window 64M
shadowed_helper window_host.py
trap 'kill $helper $daemon 2>/dev/null; rm -rf "$TMP"' EXIT
vm_relay "$kernel, $machine" --kernel "$kernel" --machine "$machine" --mem 1024 --timeout 400 "${shadowed[@]}" -- \
	env "BIN=$BIN" "CASES=${cases[*]}" ${WINDOW_ONLY:+"WINDOW_ONLY=$WINDOW_ONLY"} tests/vm/guest/window "$TMP/want"
if [ -z "${WINDOW_ONLY:-}" ] && [ -e "$TMP/data/wal.db" ]; then
	is "$(sqlite3 "$TMP/data/wal.db" "pragma integrity_check; select count(*), sum(a) from t" 2>&1 | tr "\n" " ")" "ok 100|5050 " \
		"the data base that two programs of the guest wrote is sound"
fi
shadowed_done
