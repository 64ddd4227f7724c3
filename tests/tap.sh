# tap.sh - the same as tap.h, for tests written in shell: source it, call ok/is/skip, end with `tap_done`
# shellcheck shell=bash
# BIN is the folder of the programs under test (tests/run sets it); TMP a folder of the test's own, removed at exit.
set -u
: "${BIN:=build/bin}"
TMP=$(mktemp -d)
trap 'rm -rf "$TMP"' EXIT
tap_n=0 tap_bad=0

ok() { # ok STATUS WHAT: STATUS 0 is good
	tap_n=$((tap_n + 1))
	if [ "$1" -eq 0 ]; then echo "ok $tap_n - $2"; else
		echo "not ok $tap_n - $2"
		tap_bad=$((tap_bad + 1))
	fi
}
is() { # is GOT WANT WHAT: compares text
	if [ "$1" = "$2" ]; then ok 0 "$3"; else
		ok 1 "$3"
		printf '%s\n' "got:  $1" "want: $2" | sed 's/^/# /'
	fi
}
matches() { # matches TEXT REGEX WHAT
	if grep -Eq -- "$2" <<<"$1"; then ok 0 "$3"; else
		ok 1 "$3"
		printf '%s\n' "got: $1" "want a match of: $2" | sed 's/^/# /'
	fi
}
skip() { # skip WHAT WHY
	tap_n=$((tap_n + 1))
	echo "ok $tap_n - $1 # SKIP $2"
}
needs_root() { # needs_root WHAT: without it WHAT is skipped and the test over
	[ "$(id -u)" != 0 ] || return 0
	skip "$1" "needs root"
	tap_done
	exit
}
tap_done() {
	echo "1..$tap_n"
	[ "$tap_bad" -eq 0 ]
}
