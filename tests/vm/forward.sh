#!/bin/bash
# forward.sh - system call forwarding from end to end: stock programs of a stock guest work on a directory and the loopback of the host
#
# Each case of tests/vm/guest/forward is a command on /mnt/data.  First all are run here, in a mount namespace that has one tree there;
# then in the guest, which has nothing there, by dsrun --forward with a policy that grants another tree, made in the same
# way.  What they print is compared, and in the end the two trees.  The guest has no network card and no shared directory.
#
# DS_VM_KERNEL, DS_VM_EMULATOR, DS_VM_MACHINE choose another configuration.  FORWARD_ONLY: a pattern of cases to run.
. tests/tap.sh
unset MAKELEVEL MAKEFLAGS MFLAGS # of the make that runs the tests: one of the cases is a make
. tests/vm/relay.bash
. tests/vm/shadowed.bash
shadowed_needs "forwarding from end to end"
for program in git sqlite3 curl redis-check-rdb gcc make setpriv unshare; do
	command -v $program >/dev/null || { skip "forwarding from end to end" "$program is not installed" && tap_done && exit; }
done
port=$((20000 + $$ % 20000))
chmod 755 "$TMP"

tree() { # tree FOLDER: the directory that programs work on
	mkdir -p "$1"/tree/d/e "$1"/tree/empty "$1"/served
	echo "hello from the host" >"$1/tree/hello"
	echo "served by the guest" >"$1/served/file"
	seq 2000 >"$1/tree/d/seq"
	seq 100000 | head -c 300000 >"$1/tree/big"
	: >"$1/tree/none at all"
	ln -s d/seq "$1/tree/link"
	ln -s nowhere "$1/tree/dangling"
	ln -s "$TMP/outside" "$1/out"
	ln "$1/tree/hello" "$1/tree/d/e/hard"
	for i in $(seq 30); do echo "$i" >"$1/tree/d/e/file$i"; done
	chmod 640 "$1/tree/d/e/file1"
	chmod 755 "$1/tree/d/e/file2"
	mkdir "$1/c"
	printf '#include "a.h"\nint main(void) { return f(6) != 42; }\n' >"$1/c/main.c"
	printf 'int f(int);\n' >"$1/c/a.h"
	printf '#include "a.h"\nint f(int x) { return x * 7; }\n' >"$1/c/a.c"
	printf 'all: both\nboth: main.o a.o\n\tgcc -o both main.o a.o\n%%.o: %%.c a.h\n\tgcc -O1 -c -o $@ $<\n' >"$1/c/Makefile"
	cp /usr/bin/echo "$1/c/say"
	printf '#!/usr/bin/python3 -B\nimport sys\nprint(sys.argv)\n' >"$1/c/script"
	chmod 755 "$1/c/script"
	mkfifo "$1/fifo"
	mkdir "$1/conform"
	chown -hR 65534:65534 "$1"
	find "$1" -exec touch -h -d '2020-02-02 02:02:02.5' {} +
}
umask 022
tree "$TMP/theirs"
tree "$TMP/ours"
mkdir "$TMP/ro" "$TMP/want" "$TMP/local"
echo "to be read" >"$TMP/ro/r"
echo "outside" >"$TMP/outside"
chown -R 65534:65534 "$TMP/ro" "$TMP/want" "$TMP/local"

cat >"$TMP/policy" <<EOT
allow vm=one program=/usr/bin/** service=forward executors=16 memory=16M net=host calls=file,dir,socket,poll,info path=/mnt/data:$TMP/theirs:rw path=/mnt/ro:$TMP/ro:ro
allow vm=one program=/usr/lib/** service=forward executors=4 memory=16M path=/mnt/data:$TMP/theirs:rw
allow vm=one program=**/conform service=forward executors=2 memory=16M path=/mnt/data:$TMP/theirs:rw
allow vm=one program=**/forward_cases service=forward executors=4 memory=16M family=unix path=/mnt/data:$TMP/theirs:rw
allow vm=one program=**/memfd:* service=forward executors=4 memory=16M path=/mnt/data:$TMP/theirs:rw
EOT
shadowed_serve "$TMP"
shadowed_helper forward_host.py "$port"
trap 'kill $helper $daemon 2>/dev/null; rm -rf "$TMP"' EXIT

# Servers of the host.  redis-check-rdb is the server's program under another name (Debian: redis-tools).
(exec -a redis-server redis-check-rdb --port $((port + 2)) --bind 127.0.0.1 --save '' --dir "$TMP") >"$TMP/redis" 2>&1 &
redis=$!
mkdir -p "$TMP/nginx/logs" "$TMP/html"
seq 20000 >"$TMP/html/page"
chmod -R a+rX "$TMP/html"
cat >"$TMP/nginx/conf" <<EOT
daemon off;
master_process off;
pid $TMP/nginx/pid;
error_log $TMP/nginx/error;
events { worker_connections 64; }
http { access_log off; client_body_temp_path $TMP/nginx/b; proxy_temp_path $TMP/nginx/p; fastcgi_temp_path $TMP/nginx/f;
	uwsgi_temp_path $TMP/nginx/u; scgi_temp_path $TMP/nginx/s;
	server { listen 127.0.0.1:$((port + 3)); root $TMP/html; } }
EOT
nginx=
if program=$(tests/vm/nginx 2>"$TMP/nginx/none"); then
	"$program" -e "$TMP/nginx/error" -p "$TMP/nginx" -c "$TMP/nginx/conf" >"$TMP/nginx/out" 2>&1 &
	nginx=$!
	export FORWARD_NGINX=$((port + 3))
fi
trap 'kill $helper $daemon $redis $nginx 2>/dev/null; rm -rf "$TMP"' EXIT
for _ in $(seq 300); do
	redis-cli -p $((port + 2)) ping >"$TMP/ping" 2>&1 && curl -s "http://127.0.0.1:$port/" >"$TMP/ping" && break || sleep 0.1
done

# What the user nobody executes lies where that user may go: this tree may be root's alone.
mkdir -p "$TMP/tools/bin" "$TMP/tools/lib"
cp "$BIN/dsrun" "$TMP/tools/bin/" && cp "${BIN%/bin}/lib/libdsforward.so" "$TMP/tools/lib/" && cp "${BIN%/bin}/tests/conform/conform" "${BIN%/bin}/tests/intercept/forward_cases" tests/vm/guest/forward_prog.py "$TMP/tools/"
chmod -R a+rX "$TMP/tools"
export FORWARD_PORT=$port FORWARD_LOCAL=$TMP/local FORWARD_TOOLS=$TMP/tools FORWARD_CONFORM=$TMP/tools/conform
unshare -m --propagation private sh -c 'mount -t tmpfs -o mode=755 forward /mnt && mkdir /mnt/data /mnt/ro && mount --bind "$1/ours" /mnt/data &&
	mount --bind "$1/ro" /mnt/ro && mount -o remount,bind,ro /mnt/ro && exec tests/vm/guest/forward want "$1/want"' - "$TMP" >"$TMP/want.log" 2>&1
is "$? $(cat "$TMP/want.log")" "0 " "the commands were run on the host"
rm -rf "$TMP/local/d"

vm_relay "$kernel, $machine" --kernel "$kernel" --machine "$machine" --mem 1024 --timeout 400 "${shadowed[@]}" -- \
	env "BIN=$BIN" "FORWARD_PORT=$port" "FORWARD_LOCAL=$FORWARD_LOCAL" "FORWARD_TOOLS=$FORWARD_TOOLS" "FORWARD_CONFORM=$FORWARD_CONFORM" ${FORWARD_NGINX:+"FORWARD_NGINX=$FORWARD_NGINX"} ${FORWARD_ONLY:+"FORWARD_ONLY=$FORWARD_ONLY"} tests/vm/guest/forward_boot "$TMP/want"
if [ -s "$TMP/guest" ] && [ -z "${FORWARD_ONLY:-}" ]; then
	list() { (cd "$1" && find . -name .git -prune -o -name mapped -prune -o -printf '%p %y %m %U:%G %n %l\n' | sort && find . -type f -not -path '*/.git/*' -exec md5sum {} + | sort -k 2); }
	diff <(list "$TMP/ours") <(list "$TMP/theirs") >"$TMP/trees"
	ok $? "the tree that the guest worked on is as the one that the host worked on"
	head -n 20 "$TMP/trees" | sed 's/^/# /'
	git -c safe.directory='*' -C "$TMP/theirs/repo" fsck --full >"$TMP/fsck" 2>&1 &&
		[ "$(git -c safe.directory='*' -C "$TMP/theirs/repo" rev-parse HEAD)" = "$(git -c safe.directory='*' -C "$TMP/ours/repo" rev-parse HEAD)" ]
	ok $? "and so is the history that was committed there"
fi
[ -n "$nginx" ] || skip "curl and nginx" "$(head -n 1 "$TMP/nginx/none")"
shadowed_done
