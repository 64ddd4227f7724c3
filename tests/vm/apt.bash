# apt.bash - packages of this machine's Debian sources, their backports and Debian 11, without touching the machine's apt
# shellcheck shell=bash
#
# The servers are those that this machine's own sources name; lists, downloads and state live in a folder of the caller's.
# Sources, lists and package database of the machine stay as they are, and no root is needed.

# apt_private_lists FOLDER: fetches the lists; sets the array apt, options for apt-get and apt-cache.  apt-get's messages
# are in FOLDER/log.
apt_private_lists() {
	local work=$1 suites signed='' keys=/usr/share/keyrings/debian-archive-keyring.gpg
	suites=$(apt-get update --print-uris 2>/dev/null | sed -nE "s,^'([^']*/debian[^']*)/dists/([^'/]+)/InRelease'.*,\1 \2,p" |
		grep -v -e -backports)
	[ -f "$keys" ] && signed="[signed-by=$keys] "
	mkdir -p "$work"/{parts,lists/partial,cache/archives/partial}
	awk -v signed="$signed" '{ print "deb " signed $1 " " $2 " main" }
		$2 !~ /-/ { print "deb " signed $1 " " $2 "-backports main"; print "deb " signed $1 " bullseye main" }' <<<"$suites" >"$work/parts/vm.list"
	# shellcheck disable=SC2034 # for the caller
	apt=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/parts" -o "Dir::State::lists=$work/lists"
		-o "Dir::Cache=$work/cache")
	timeout 240 apt-get "${apt[@]}" -q update >"$work/log" 2>&1 </dev/null
}
