#!/bin/bash
# style.sh - the house rules that a machine can check: which folder may include which, sizes, words, comments
. tests/tap.sh
here=$PWD

# -c: root may run this in somebody else's clone, where git would refuse
tracked() { git -c safe.directory="$here" ls-files -- "$@"; }
if ! tracked Makefile | grep -q .; then
	skip "house rules" "not a git checkout, so nobody knows which files are the project's"
	tap_done
	exit
fi
none() { # none OFFENDERS WHAT
	is "$1" "" "$2"
}
includes() { # includes FOLDER: "file:line:path" of each include written from the top
	tracked "$1/*.c" "$1/*.h" | xargs -r grep -nHoE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"[^"]+"' /dev/null |
		sed -E 's/#.*"([^"]+)"/\1/; s/:[[:space:]]+/:/'
}

# --- arrows --------------------------------------------------------------------------------------------------------
none "$(includes rle | grep -vE ':rle/[^/]+\.h$')" "rle/ includes only rle/"
none "$(includes collector | grep -vE ':(rle|collector)/[^/]+\.(h|sql)$')" "collector/ includes only rle/ and itself"
none "$(includes analysis | grep -vE ':(rle|analysis)/[^/]+\.h$')" "analysis/ includes only rle/ and itself"
none "$(includes runtime/guest | grep -E ':runtime/host/')" "runtime/guest includes nothing of runtime/host"
none "$(includes runtime/host | grep -E ':runtime/guest/')" "runtime/host includes nothing of runtime/guest"
none "$(includes runtime/wire | grep -E ':runtime/(guest|host|shadow|services)/')" "runtime/wire stands alone"
none "$(includes runtime | grep -E ':(collector|analysis)/')" "runtime/ includes nothing of the study"
ok "$([ "$(includes rle | wc -l)" -gt 5 ] && echo 0 || echo 1)" "the includes were found at all"

# --- every symbol of the library carries its module's name -----------------------------------------------------------
lib=$(dirname "$BIN")/lib/rle.a
if [ -f "$lib" ]; then
	none "$(nm -g --defined-only "$lib" 2>/dev/null | awk 'NF == 3 && $3 !~ /^(rle_|__|_)/ { print $3 }')" \
		"every symbol of rle.a begins with rle_"
else
	skip "every symbol of rle.a begins with rle_" "$lib has not been built"
fi

# --- sizes and words -------------------------------------------------------------------------------------------------
code=$(tracked '*.c' '*.h' '*.sh' '*.bash' '*.sql' '*.py' '*.gp' Makefile tests/run tests/deps collector/packaging .ci)
none "$(xargs wc -l <<<"$code" | awk '$2 != "total" && $1 > 600 { print $2 ": " $1 " lines" }')" "no file has more than 600 lines"
none "$(xargs grep -nwE 'TO[D]O|FIX[M]E|X[X]X|HA[C]K' /dev/null <<<"$code")" "no note that says the work is not done"
none "$(tracked | grep -vE '\.(png|gz|db|zst|bin)$' | xargs -d '\n' grep -nIE '(^|[^A-Za-z0-9_.$}])/(hom[e]|User[s])/[A-Za-z0-9_.-]+/|(^|[^A-Za-z0-9_.$}])/(wor[k]|workspace[s]?|roo[t])/' /dev/null)" \
	"no tracked file names somebody's own folder"
none "$(tracked '*.c' '*.h' | xargs grep -nE '^ +[^ *]' /dev/null)" "C is indented with tabs"

# --- comments --------------------------------------------------------------------------------------------------------
# A function in a header (declaration or static inline at the left margin) follows a /** comment.  Declarations on the
# very next line share it: open and close, get and put.
none "$(tracked 'rle/*.h' 'collector/*.h' 'analysis/*.h' | while read -r h; do
	awk -v file="$h" '
		/^\/\*\*/ { doc = 1 }
		/^$/ { doc = 0 }
		/^[a-z].*\(/ && !/^(typedef|_Static_assert|extern "C")/ {
			name = $0; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name)
			if (!doc && name != "__attribute__") print file ":" FNR ": " name
		}' "$h"
done)" "every function in a header has a /** comment"
none "$(tracked '*.c' '*.h' | grep -vE '^(runtime/shadow/gen|data)/' | while read -r f; do
	head -n 1 "$f" | grep -qE '^/\*' || echo "$f"
done)" "every C file opens with a comment that says what it is"

# --- documents -------------------------------------------------------------------------------------------------------
# A source file that a document names, by its path or the end of it.
none "$(tracked '*.md' '*.scd' | xargs grep -ohE '`[A-Za-z0-9_./-]*[A-Za-z0-9_]\.(c|h|S|sh|bash|py|gp|sql|scd|conf|ld)`' | tr -d '`' | sed 's|^\(\.\./\)*||' |
	awk 'NR == FNR { path = $0; there[path]; while (sub(/^[^\/]*\//, "", path)) there[path]; next } !($0 in there)' <(tracked) - | sort -u)" \
	"every source file that a document names is there"

# --- shell -----------------------------------------------------------------------------------------------------------
scripts=$(tracked | grep -vE '^(data|tests/fuzz/corpus)/' | while read -r f; do
	[ -f "$f" ] || continue
	case $f in
	*.sh | *.bash) echo "$f" ;;
	*) head -c 64 "$f" | tr -d '\0' | head -n 1 | grep -qE '^#!.*[/ ](ba)?sh( |$)' && echo "$f" ;;
	esac
done)
if command -v shellcheck >/dev/null; then
	none "$(xargs -n 8 -P "$(nproc)" shellcheck -x -S warning -f gcc <<<"$scripts" 2>&1)" "shellcheck has nothing to say about $(wc -l <<<"$scripts") scripts"
else
	skip "shellcheck" "shellcheck is not installed"
fi
tap_done
