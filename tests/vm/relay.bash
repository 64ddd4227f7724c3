# relay.bash - TAP from a guest: source it after tests/tap.sh
# shellcheck shell=bash disable=SC2034 # numa is for who sources it

# vm_numa FIRST SECOND: sets numa, options of tests/vm/boot for two nodes of so much memory (512M), so that pages can be made to migrate.
vm_numa() {
	local word
	numa=()
	for word in -object "memory-backend-ram,id=n0,size=$1" -object "memory-backend-ram,id=n1,size=$2" \
		-numa node,memdev=n0,cpus=0-1 -numa node,memdev=n1; do
		numa+=(--qemu "$word")
	done
}

# vm_relay WHERE BOOT-ARGUMENT...: runs tests/vm/boot; the guest's checks become ours, "WHERE: what", and one is added:
# that the guest came to its end with a clean kernel log.  Where no VM can be had: one skip, which says why.
vm_relay() {
	local where=$1 line what plan='' n=0 status
	shift
	tests/vm/boot "$@" >"$TMP/guest" 2>"$TMP/vm"
	status=$?
	if [ $status = 77 ]; then
		skip "$where" "$(head -n 1 "$TMP/vm")"
		return
	fi
	while IFS= read -r line; do
		what=${line#*ok * - }
		case $line in
		'ok '*' # SKIP '*) skip "$where: ${what% # SKIP *}" "${what#* # SKIP }" && n=$((n + 1)) ;;
		'ok '*) ok 0 "$where: $what" && n=$((n + 1)) ;;
		'not ok '*) ok 1 "$where: $what" && n=$((n + 1)) ;;
		1..*) plan=${line#1..} ;;
		*) echo "# ${line#\# }" ;;
		esac
	done <"$TMP/guest"
	sed 's/^/# guest, standard error: /' "$TMP/vm"
	[ "$status" -le 1 ] && [ "$plan" = $n ]
	ok $? "$where: the guest came to its end and its kernel has nothing to complain of (status $status, $n checks of ${plan:-no plan})"
}
