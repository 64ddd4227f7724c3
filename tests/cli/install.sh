#!/bin/bash
# install.sh - `make install` and `make uninstall`: every file with its mode, the admin's configuration kept, man pages
# that render without a warning and tell the truth, a cron line that acts only where systemd does not, completion
. tests/tap.sh
b=$(dirname "$BIN")
root=$TMP/root
make_it() { # make_it ARGS...: the Makefile as a person would call it, not as a part of the make that runs this test
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -s B="$b" DESTDIR="$root" "$@" 2>&1
}
listing() { (cd "$root" && find . -mindepth 1 \( -type f -o -path ./var/lib/dscollect \) -printf '%m %P\n' | sort -k2); }

out=$(make_it install)
ok $? "make install DESTDIR= succeeds"
services=$(for s in runtime/services/*.c; do echo "755 usr/lib/dark-shadows/services/$(basename "$s" .c)"; done)
policies=$(for p in runtime/policies/*.conf; do echo "644 usr/share/dark-shadows/policies/$(basename "$p")"; done)
is "$(listing)" "$(sort -k2 <<<"$services
$policies
644 etc/cron.d/dscollect
644 usr/lib/dark-shadows/libdswindow.so
644 etc/dark-shadows/policy.conf
644 etc/default/dscollect
755 usr/bin/dsmap
755 usr/bin/dsreport
755 usr/bin/dsrun
644 usr/include/dsguest.h
644 usr/lib/libdsforward.so
644 usr/lib/libdsguest.so
644 usr/lib/systemd/system/dsagent.service
644 usr/lib/systemd/system/dscollect.service
644 usr/lib/systemd/system/dscollect.timer
644 usr/lib/systemd/system/dscontainer@.service
644 usr/lib/systemd/system/dshost.service
755 usr/sbin/dsagent
755 usr/sbin/dscollect
755 usr/sbin/dscontainer
755 usr/sbin/dshost
644 usr/share/bash-completion/completions/dsagent
644 usr/share/bash-completion/completions/dscollect
644 usr/share/bash-completion/completions/dscontainer
644 usr/share/bash-completion/completions/dshost
644 usr/share/bash-completion/completions/dsmap
644 usr/share/bash-completion/completions/dsreport
644 usr/share/bash-completion/completions/dsrun
644 usr/share/dark-shadows/policy.conf
644 usr/share/dscollect/dscollect.cron
644 usr/share/dscollect/dscollect.default
644 usr/share/man/man1/dsmap.1.gz
644 usr/share/man/man1/dsreport.1.gz
644 usr/share/man/man1/dsrun.1.gz
644 usr/share/man/man3/dsguest.3.gz
644 usr/share/man/man5/ds-policy.5.gz
644 usr/share/man/man5/dscollect.5.gz
644 usr/share/man/man8/dsagent.8.gz
644 usr/share/man/man8/dscollect.8.gz
644 usr/share/man/man8/dscontainer.8.gz
644 usr/share/man/man8/dshost.8.gz
750 var/lib/dscollect")" "every file is there, with its mode"
matches "$out" "systemctl enable --now dscollect.timer" "it says what is to be done on the target"
is "$(grep -rlE "@[A-Z]+@" "$root/usr/lib/systemd" "$root/etc")" "" "no placeholder is left in what was installed"
matches "$(cat "$root/usr/lib/systemd/system/dscollect.service")" '^ExecStart=/usr/sbin/dscollect ' "the service starts the installed program"
"$root/usr/sbin/dscollect" --version >/dev/null && "$root/usr/bin/dsreport" --version >/dev/null && "$root/usr/bin/dsmap" --version >/dev/null &&
	"$root/usr/sbin/dshost" --version >/dev/null
ok $? "the installed programs start"

# --- man pages -------------------------------------------------------------------------------------------------------
export MANPATH=$root/usr/share/man MANWIDTH=100 LC_ALL=C.UTF-8
if man -w man >/dev/null 2>&1 || command -v man >/dev/null; then
	for page in 1:dsmap 1:dsrun 3:dsguest 8:dsagent 1:dsreport 5:dscollect 8:dscollect 5:ds-policy 8:dscontainer 8:dshost; do
		warnings=$(man --warnings -l "$root/usr/share/man/man${page%:*}/${page#*:}.${page%:*}.gz" 2>&1 >"$TMP/page")
		is "$warnings" "" "${page#*:}(${page%:*}) renders without a warning"
		matches "$(cat "$TMP/page")" '^SEE ALSO|^EXAMPLES' "${page#*:}(${page%:*}) renders to its end"
	done
else
	skip "man pages render" "man is not installed"
fi
source_of() { zcat "$root/usr/share/man/man$1/$2.$1.gz" | sed 's/\\fR//g; s/\\fB//g; s/\\fI//g; s/\\-/-/g; s/\\&//g; s/\\_/_/g'; }
# options PROGRAM: what --help offers
options() { "$BIN/$1" --help | sed -nE 's/^ +(-., +)*(--[a-z-]+).*/\2/p' | sort -u; }
for program in dscollect:8 dsreport:1 dsmap:1 dshost:8 dsagent:8 dsrun:1; do
	name=${program%:*}
	text=$(source_of "${program#*:}" "$name")
	offered=$(options "$name")
	ok "$([ "$(wc -l <<<"$offered")" -gt 7 ] && echo 0 || echo 1)" "$name --help lists its options"
	is "$(while read -r o; do grep -qE -- "(^|[^a-z-])$o([^a-z-]|\$)" <<<"$text" || echo "$o"; done <<<"$offered")" "" "$name's man page has every option of --help"
	is "$(grep -oE -- '^ *--[a-z][a-z-]+' <<<"$text" | tr -d ' ' | sort -u | grep -vxF -- "$offered")" "" "$name's man page has no option that --help lacks"
done
sqlite3 "$TMP/schema.db" <collector/schema.sql
text=$(source_of 5 dscollect)
for view in snapshot_info process_sample; do
	part=$(awk -v v="VIEW $view" 'index($0, ".SH VIEW") == 1 || index($0, ".SH EX") == 1 { on = index($0, v) } on' <<<"$text")
	columns=$(sqlite3 "$TMP/schema.db" "SELECT name FROM pragma_table_info('$view')")
	ok "$([ "$(wc -l <<<"$columns")" -gt 20 ] && echo 0 || echo 1)" "$view has its columns"
	is "$(while read -r c; do grep -qE "^([a-z0-9_]+, )*$c(,|\$)" <<<"$part" || echo "$c"; done <<<"$columns")" "" "dscollect(5) explains every column of $view"
	is "$(grep -oE '^[a-z0-9_]+(, [a-z0-9_]+)*$' <<<"$part" | tr -s ', ' '\n' | grep -vxF "$columns")" "" "dscollect(5) names no column that $view lacks"
done

# --- cron ------------------------------------------------------------------------------------------------------------
line=$(grep dscollect "$root/etc/cron.d/dscollect" | grep -v '^#')
matches "$line" '^\*/15 \* \* \* \* root ' "cron: every 15 minutes, as root"
command=$(cut -d' ' -f7- <<<"$line")
ok "$(grep -q % <<<"$command" && echo 1 || echo 0)" "cron: no %, which cron would turn into a newline"
mkdir "$TMP/stub" "$TMP/system"
printf '#!/bin/sh\necho "$0 $*"\n' >"$TMP/stub/dscollect"
chmod +x "$TMP/stub/dscollect"
cron_with() { # cron_with FOLDER: the line's command on a machine whose systemd folder is FOLDER
	sed "s|/usr/sbin/dscollect|$TMP/stub/dscollect|g; s|/run/systemd/system|$1|" <<<"$command" | env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh 2>&1
}
is "$(cron_with "$TMP/system")" "" "cron: does nothing where systemd runs"
is "$(cron_with "$TMP/absent")" "$TMP/stub/dscollect --quiet" "cron: takes a snapshot where it does not"
chmod -x "$TMP/stub/dscollect"
is "$(cron_with "$TMP/absent")" "" "cron: silent when the program is gone"

# --- completion ------------------------------------------------------------------------------------------------------
complete_with() { # complete_with PROGRAM WORD...: what bash offers for the last word
	bash --norc --noprofile -c '. "$1"; shift
		COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
		f=$(complete -p "$1" | sed -E "s/.*-F ([^ ]+).*/\1/"); "$f" "$1" "${!#}" "${COMP_WORDS[COMP_CWORD - 1]}"
		printf "%s\n" "${COMPREPLY[@]}"' _ "$root/usr/share/bash-completion/completions/$1" "$@" 2>&1 | sed 's/ *$//' | sort -u
}
is "$(complete_with dscollect --join "")" "full
head
none" "completion: --join offers its three values"
is "$(complete_with dscollect --join = h)" "head" "completion: --join=h becomes head"
mkdir "$TMP/dbs" && touch "$TMP/dbs/a.db"
is "$(complete_with dscollect --db "$TMP/dbs/")" "$TMP/dbs/a.db" "completion: --db offers files"
for program in dscollect dsreport dsmap dshost; do
	is "$(complete_with $program -- | grep -oE -- '--[a-z-]+' | sort -u)" "$(options $program)" "completion: $program -- offers what --help lists"
done

# --- configuration ---------------------------------------------------------------------------------------------------
"$root/usr/sbin/dshost" check-policy "$root/etc/dark-shadows/policy.conf" >"$TMP/out"
is "$?/$(grep -c ": 0 rules" "$TMP/out")" 0/1 "the shipped policy is right and allows nothing"
sed 's/^#\(allow\|deny\)/\1/' "$root/etc/dark-shadows/policy.conf" >"$TMP/policy"
"$root/usr/sbin/dshost" check-policy "$TMP/policy" >"$TMP/out"
is "$?/$(grep -c ": 2 rules" "$TMP/out")" 0/1 "and so are the rules that it shows"
text=$(source_of 5 ds-policy)
is "$("$root/usr/sbin/dshost" serve --run-dir "$TMP/run" --policy /dev/null 2>&1; echo $?)" "/dev/null: not a regular file
1" "the installed dshost finds its services' folder"
for key in vm program service sha256 uid mode executors max-pages memory; do
	grep -qE "^ *$key=" <<<"$text" || echo "$key"
done >"$TMP/out"
is "$(cat "$TMP/out")" "" "ds-policy(5) explains every key"
conf=$root/etc/default/dscollect
sed 's/^#\([A-Z_]*=\)/\1/' "$conf" >"$TMP/every-line"
ok "$([ "$(grep -c '^[A-Z_]*=' "$TMP/every-line")" -ge 6 ] && echo 0 || echo 1)" "the configuration shows its keys"
said=$("$BIN/dscollect" --config "$TMP/every-line" --db "$TMP/conf.db" --root "$TMP/absent" --quiet 2>&1)
ok "$([ $? -ne 1 ] && echo 0 || echo 1)" "dscollect accepts every line of it"
case $said in *every-line*) echo "# $said" ;; esac
echo HISTORY=30 >>"$conf"
matches "$(make_it install)" "kept your .*/etc/default/dscollect" "installing again says that an edited configuration is kept"
is "$(tail -n 1 "$conf")" "HISTORY=30" "and keeps it"
for f in "$conf" "$root/usr/share/dscollect/dscollect.default"; do echo "# what an older version shipped" >"$f"; done
make_it install >/dev/null
is "$(cat "$conf")" "$(cat collector/packaging/dscollect.default)" "an unedited configuration of an older version is replaced"

# --- and away again --------------------------------------------------------------------------------------------------
echo HISTORY=30 >>"$conf"
(umask 027 && echo data >"$root/var/lib/dscollect/dscollect.db")
out=$(make_it uninstall)
ok $? "make uninstall succeeds"
is "$(listing)" "644 etc/default/dscollect
750 var/lib/dscollect
640 var/lib/dscollect/dscollect.db" "uninstall leaves the data and the edited configuration, nothing else"
matches "$out" "kept the snapshots in .*/var/lib/dscollect" "it says that the snapshots are kept"
matches "$out" "kept your .*/etc/default/dscollect" "and the configuration"
rm "$root/var/lib/dscollect/dscollect.db"
rm "$conf"
make_it install >/dev/null && make_it uninstall >/dev/null
is "$(listing)" "" "without data and edits it leaves no file"

# --- another prefix --------------------------------------------------------------------------------------------------
make_it install PREFIX=/opt/ds >/dev/null
matches "$(cat "$root/opt/ds/lib/systemd/system/dscollect.service")" '^ExecStart=/opt/ds/sbin/dscollect ' "PREFIX: the service follows it"
matches "$(cat "$root/etc/cron.d/dscollect")" ' /opt/ds/sbin/dscollect ' "PREFIX: the cron line follows it"
tap_done
