/* jailnet.c - programs of BPF at a shadow's cgroup; theory in jailnet.h
 *
 * Sources: linux/bpf.h (struct bpf_sock_addr, struct __sk_buff), Documentation/bpf/standardization/instruction-set.rst; what each
 * hook is asked about, net/ipv4/af_inet.c, net/ipv4/udp.c, net/ipv6/udp.c of Linux 6.12.
 */
#include "runtime/host/jail/jailnet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rle/cleanup.h"

#define PROGRAM_MAX 2048 /* instructions: 32 specs of at most 32 */
#define SKB_LEN 0	 /* offset of len in struct __sk_buff */

struct program {
	struct bpf_insn ins[PROGRAM_MAX];
	uint32_t n;
};

static void put(struct program *p, uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm)
{
	if (p->n < PROGRAM_MAX)
		p->ins[p->n++] = (struct bpf_insn){.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm};
}

static int bpf(int cmd, union bpf_attr *attr, size_t bytes)
{
	const long rc = syscall(__NR_bpf, cmd, attr, bytes);

	return rc < 0 ? -errno : (int)rc;
}

static int load(const struct program *p, uint32_t type, uint32_t attach)
{
	union bpf_attr attr;

	if (p->n == PROGRAM_MAX)
		return -E2BIG;
	memset(&attr, 0, sizeof(attr));
	attr.prog_type = type;
	attr.expected_attach_type = attach;
	attr.insns = (uint64_t)(uintptr_t)p->ins;
	attr.insn_cnt = p->n;
	attr.license = (uint64_t)(uintptr_t)"GPL";
	return bpf(BPF_PROG_LOAD, &attr, sizeof(attr));
}

static int attach(int group_fd, const struct program *p, uint32_t type, uint32_t where)
{
	cleanup_close int fd = load(p, type, where);
	union bpf_attr attr;

	if (fd < 0)
		return fd;
	memset(&attr, 0, sizeof(attr));
	attr.target_fd = (uint32_t)group_fd;
	attr.attach_bpf_fd = (uint32_t)fd;
	attr.attach_type = where;
	return bpf(BPF_PROG_ATTACH, &attr, sizeof(attr));
}

/* --- addresses --------------------------------------------------------------------------------------------------------- */

/* Registers: 1 the context; 2 the port, 3 the protocol, 4 the family, 5 to 8 the address as the kernel loads its words, 0 scratch. */
enum { R_CTX = 1, R_PORT, R_PROTOCOL, R_FAMILY, R_ADDRESS };

static void put_word(struct program *p, int reg, size_t offset)
{
	put(p, BPF_LDX | BPF_W | BPF_MEM, (uint8_t)reg, R_CTX, (int16_t)offset, 0);
}

/* What the list is compared with; IPv4 that is written as IPv6 becomes IPv4. */
static void put_begin(struct program *p, bool six)
{
	put_word(p, R_PORT, offsetof(struct bpf_sock_addr, user_port)); /* 16 bits, network order */
	put(p, BPF_ALU | BPF_END | BPF_TO_BE, R_PORT, 0, 0, 16);
	put_word(p, R_PROTOCOL, offsetof(struct bpf_sock_addr, protocol));
	put(p, BPF_ALU64 | BPF_MOV | BPF_K, R_FAMILY, 0, 0, six ? 6 : 4);
	if (!six) {
		put_word(p, R_ADDRESS, offsetof(struct bpf_sock_addr, user_ip4));
		return;
	}
	for (int i = 0; i < 4; i++)
		put_word(p, R_ADDRESS + i, offsetof(struct bpf_sock_addr, user_ip6) + 4 * (size_t)i);
	put(p, BPF_JMP | BPF_JNE | BPF_K, R_ADDRESS, 0, 6, 0);
	put(p, BPF_JMP | BPF_JNE | BPF_K, R_ADDRESS + 1, 0, 5, 0);
	/* An immediate is sign-extended where 64 bits are compared: so it is taken away first, from 32. */
	put(p, BPF_ALU | BPF_MOV | BPF_X, 0, R_ADDRESS + 2, 0, 0);
	put(p, BPF_ALU | BPF_XOR | BPF_K, 0, 0, 0, (int32_t)htonl(0xffff));
	put(p, BPF_JMP | BPF_JNE | BPF_K, 0, 0, 2, 0);
	put(p, BPF_ALU64 | BPF_MOV | BPF_X, R_ADDRESS, R_ADDRESS + 3, 0, 0);
	put(p, BPF_ALU64 | BPF_MOV | BPF_K, R_FAMILY, 0, 0, 4);
}

/* "Yes" if all of this holds, else on to the next. */
static void put_spec(struct program *p, const struct addrspec *s)
{
	uint32_t out[8], nout = 0;

	if (s->family) {
		out[nout++] = p->n;
		put(p, BPF_JMP | BPF_JNE | BPF_K, R_FAMILY, 0, 0, s->family);
	}
	if (s->protocol) {
		out[nout++] = p->n;
		put(p, BPF_JMP | BPF_JNE | BPF_K, R_PROTOCOL, 0, 0, s->protocol);
	}
	for (uint32_t i = 0; s->family && 32 * i < s->bits; i++) {
		const uint32_t left = s->bits - 32 * i, mask = left >= 32 ? UINT32_MAX : ~(UINT32_MAX >> left);
		uint32_t word;

		memcpy(&word, s->address + 4 * i, 4);
		put(p, BPF_ALU | BPF_MOV | BPF_X, 0, (uint8_t)(R_ADDRESS + i), 0, 0);
		put(p, BPF_ALU | BPF_AND | BPF_K, 0, 0, 0, (int32_t)htonl(mask));
		put(p, BPF_ALU | BPF_XOR | BPF_K, 0, 0, 0, (int32_t)word);
		out[nout++] = p->n;
		put(p, BPF_JMP | BPF_JNE | BPF_K, 0, 0, 0, 0);
	}
	out[nout++] = p->n;
	put(p, BPF_JMP | BPF_JLT | BPF_K, R_PORT, 0, 0, s->first);
	out[nout++] = p->n;
	put(p, BPF_JMP | BPF_JGT | BPF_K, R_PORT, 0, 0, s->last);
	put(p, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1);
	put(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	for (uint32_t i = 0; i < nout && p->n < PROGRAM_MAX; i++)
		p->ins[out[i]].off = (int16_t)(p->n - out[i] - 1);
}

static int attach_list(int group_fd, const struct addrspec *list, uint32_t n, uint32_t where, bool six)
{
	struct program p = {.n = 0};

	put_begin(&p, six);
	for (uint32_t i = 0; i < n; i++)
		put_spec(&p, &list[i]);
	put(&p, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
	put(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	return attach(group_fd, &p, BPF_PROG_TYPE_CGROUP_SOCK_ADDR, where);
}

static int limit(int group_fd, const struct jailnet_want *want)
{
	static const struct {
		uint32_t where;
		bool bind, six;
	} hooks[] = {
		{BPF_CGROUP_INET4_CONNECT, false, false}, {BPF_CGROUP_INET6_CONNECT, false, true}, {BPF_CGROUP_UDP4_SENDMSG, false, false},
		{BPF_CGROUP_UDP6_SENDMSG, false, true},	  {BPF_CGROUP_INET4_BIND, true, false},	   {BPF_CGROUP_INET6_BIND, true, true},
	};
	int rc = 0;

	for (size_t i = 0; i < sizeof(hooks) / sizeof(hooks[0]) && !rc; i++)
		rc = attach_list(group_fd, hooks[i].bind ? want->bind : want->connect, hooks[i].bind ? want->nbind : want->nconnect,
				 hooks[i].where, hooks[i].six);
	return rc;
}

/* --- counting ------------------------------------------------------------------------------------------------------------ */

/* An array of one value, two numbers. */
static int make_counts(void)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_type = BPF_MAP_TYPE_ARRAY;
	attr.key_size = 4;
	attr.value_size = 16;
	attr.max_entries = 1;
	return bpf(BPF_MAP_CREATE, &attr, sizeof(attr));
}

static int count(int group_fd, int counts_fd, bool out)
{
	struct program p = {.n = 0};

	put(&p, BPF_LDX | BPF_W | BPF_MEM, 3, R_CTX, SKB_LEN, 0);
	put(&p, BPF_LD | BPF_DW | BPF_IMM, 2, BPF_PSEUDO_MAP_VALUE, 0, counts_fd);
	put(&p, 0, 0, 0, 0, out ? 8 : 0);
	put(&p, BPF_STX | BPF_DW | BPF_ATOMIC, 2, 3, 0, BPF_ADD);
	put(&p, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1);
	put(&p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	return attach(group_fd, &p, BPF_PROG_TYPE_CGROUP_SKB, out ? BPF_CGROUP_INET_EGRESS : BPF_CGROUP_INET_INGRESS);
}

int jailnet_attach(const char *group, const struct jailnet_want *want, struct jailnet *net)
{
	cleanup_close int group_fd = -1, counts = -1;
	int rc = 0;

	net->counts_fd = -1;
	if (!want->limited && !want->counted)
		return 0;
	if (!*group)
		return -ENOENT;
	group_fd = open(group, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (group_fd < 0)
		return -errno;
	if (want->limited)
		rc = limit(group_fd, want);
	if (want->counted && !rc) {
		counts = make_counts();
		rc = counts < 0 ? counts : count(group_fd, counts, false);
		if (!rc)
			rc = count(group_fd, counts, true);
	}
	if (!rc && want->counted)
		net->counts_fd = steal_fd(&counts);
	return rc;
}

int jailnet_counts(const struct jailnet *net, uint64_t bytes[static 2])
{
	const uint32_t key = 0;
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = (uint32_t)net->counts_fd;
	attr.key = (uint64_t)(uintptr_t)&key;
	attr.value = (uint64_t)(uintptr_t)bytes;
	return bpf(BPF_MAP_LOOKUP_ELEM, &attr, sizeof(attr));
}

void jailnet_close(struct jailnet *net)
{
	if (net->counts_fd >= 0)
		close(net->counts_fd);
	net->counts_fd = -1;
}
