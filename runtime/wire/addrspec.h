/* addrspec.h - which addresses of the internet a rule of a policy is about
 *
 *	list    = spec { "," spec }
 *	spec    = [ "tcp:" | "udp:" ] address ":" ports
 *	address = "*"  |  IPv4 [ "/" bits ]  |  "[" IPv6 "]" [ "/" bits ]
 *	ports   = "*"  |  number  |  number "-" number
 *
 *	127.0.0.1:6379    10.0.0.0/8:80-90    [::1]:443    udp:*:53
 *
 * An IPv4 address that is written as an IPv6 one (::ffff:a.b.c.d) is the IPv4 address, here and in what is compared: else a rule could
 * be passed by on the other family.
 *
 * Pure; no C library but mem and str functions, see ruleline.h.
 */
#ifndef WIRE_ADDRSPEC_H
#define WIRE_ADDRSPEC_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ADDRSPEC_TCP 6	/* IPPROTO_TCP */
#define ADDRSPEC_UDP 17 /* IPPROTO_UDP */

/** struct addrspec - One of them. */
struct addrspec {
	uint8_t family;	  /* 4, 6; 0: any */
	uint8_t protocol; /* ADDRSPEC_...; 0: any */
	uint8_t bits;	  /* of the address that count */
	uint8_t zero;
	uint16_t first, last; /* ports */
	uint8_t address[16]; /* as on the wire; the first 4 of IPv4; bits that do not count are 0 */
};

/** addrspec_digits() - A number of at most @max, at most 5 digits, at *@at.  Return: whether there is one; then *@at is behind it. */
static inline bool addrspec_digits(const char **at, uint32_t max, uint32_t *out)
{
	const char *from = *at;
	uint32_t n = 0;

	while (**at >= '0' && **at <= '9' && *at - from < 5)
		n = n * 10 + (uint32_t)(*(*at)++ - '0');
	*out = n;
	return *at != from && n <= max && !(**at >= '0' && **at <= '9');
}

/** addrspec_ipv4() - Four numbers.  Return: whether there are; then *@at is behind them. */
static inline bool addrspec_ipv4(const char **at, uint8_t out[4])
{
	for (int i = 0; i < 4; i++) {
		uint32_t n;

		if ((i && *(*at)++ != '.') || !addrspec_digits(at, 255, &n))
			return false;
		out[i] = (uint8_t)n;
	}
	return true;
}

/** addrspec_ipv6() - An address of RFC 4291 (2.2), up to the "]".  Return: whether it is one. */
static inline bool addrspec_ipv6(const char **at, uint8_t out[16])
{
	int n = 0, gap = -1; /* bytes so far; where "::" was */
	uint8_t head[16];

	if ((*at)[0] == ':' && (*at)[1] == ':') {
		*at += 2;
		gap = 0;
	}
	while (**at != ']') {
		uint32_t group = 0;
		int digits = 0;
		const char *from = *at;

		for (; digits < 5; digits++, (*at)++) {
			const char c = **at;
			const int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;

			if (d < 0)
				break;
			group = group << 4 | (uint32_t)d;
		}
		if (**at == '.' && n <= 12) { /* the last 32 bits as IPv4 */
			*at = from;
			if (!addrspec_ipv4(at, head + n) || **at != ']')
				return false;
			n += 4;
			break;
		}
		if (!digits || digits > 4 || n == 16)
			return false;
		head[n++] = (uint8_t)(group >> 8);
		head[n++] = (uint8_t)group;
		if (**at != ':')
			continue;
		(*at)++;
		if (**at == ':' && gap < 0) {
			(*at)++;
			gap = n;
		} else if (**at == ']') {
			return false;
		}
	}
	if (gap < 0 ? n != 16 : n > 14)
		return false;
	memset(out, 0, 16);
	memcpy(out, head, (size_t)(gap < 0 ? 16 : gap));
	if (gap >= 0)
		memcpy(out + 16 - (n - gap), head + gap, (size_t)(n - gap));
	return true;
}

/** addrspec_mapped() - Makes IPv4 of an IPv6 address that is one.  Return: its family, 4 or 6. */
static inline uint8_t addrspec_mapped(uint8_t address[16])
{
	static const uint8_t head[12] = {[10] = 0xff, [11] = 0xff};

	if (memcmp(address, head, sizeof(head)))
		return 6;
	memcpy(address, address + 12, 4);
	memset(address + 4, 0, 12);
	return 4;
}

/**
 * addrspec_take() - Reads one spec
 * @at: terminated text; afterwards behind it: at a "," or the end
 *
 * Return: NULL; or what was expected, static text.
 */
static inline const char *addrspec_take(const char **at, struct addrspec *out)
{
	static const char form[] = "ADDRESS:PORT, where an address is *, 127.0.0.1, 10.0.0.0/8 or [::1], and a port *, 80 or 80-90";
	uint32_t bits, first = 0, last = 65535, width;

	memset(out, 0, sizeof(*out));
	if (!strncmp(*at, "tcp:", 4) || !strncmp(*at, "udp:", 4)) {
		out->protocol = **at == 't' ? ADDRSPEC_TCP : ADDRSPEC_UDP;
		*at += 4;
	}
	if (**at == '*') {
		(*at)++;
	} else if (**at == '[') {
		(*at)++;
		if (!addrspec_ipv6(at, out->address) || *(*at)++ != ']')
			return form;
		out->family = 6;
	} else {
		if (!addrspec_ipv4(at, out->address))
			return form;
		out->family = 4;
	}
	width = out->family == 6 ? 128 : out->family ? 32 : 0;
	bits = width;
	if (**at == '/' && out->family) {
		(*at)++;
		if (!addrspec_digits(at, width, &bits))
			return "no more bits behind / than the address has";
	}
	if (out->family == 6 && bits >= 96 && addrspec_mapped(out->address) == 4) {
		out->family = 4;
		bits -= 96;
	}
	out->bits = (uint8_t)bits;
	for (uint32_t i = 0; i < 16; i++)
		out->address[i] &= (uint8_t)(bits >= 8 * (i + 1) ? 0xff : bits <= 8 * i ? 0 : 0xff00 >> (bits - 8 * i));
	if (*(*at)++ != ':')
		return form;
	if (**at == '*') {
		(*at)++;
	} else {
		if (!addrspec_digits(at, 65535, &first))
			return form;
		last = first;
		if (**at == '-') {
			(*at)++;
			if (!addrspec_digits(at, 65535, &last) || last < first)
				return "the second port of a range not below the first, up to 65535";
		}
	}
	out->first = (uint16_t)first;
	out->last = (uint16_t)last;
	return **at && **at != ',' ? form : NULL;
}

/**
 * addrspec_match() - Whether an address is one of those
 * @family: 4 or 6; not 6 for what addrspec_mapped() makes 4
 * @address: 4 or 16 bytes
 * @protocol: ADDRSPEC_...; 0: not known, then a spec for one of them does not match
 */
static inline bool addrspec_match(const struct addrspec *s, uint8_t family, const uint8_t *address, uint16_t port, uint8_t protocol)
{
	if ((s->family && s->family != family) || (s->protocol && s->protocol != protocol) || port < s->first || port > s->last)
		return false;
	for (uint32_t i = 0; s->family && i * 8 < s->bits; i++) {
		const uint8_t mask = (uint8_t)(s->bits >= 8 * (i + 1) ? 0xff : 0xff00 >> (s->bits - 8 * i));

		if ((address[i] & mask) != s->address[i])
			return false;
	}
	return true;
}

#endif
