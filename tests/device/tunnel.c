/* tunnel.c - answers UDP packets that come out of a tun interface, each with its text turned around
 *
 * usage: tunnel COUNT      makes ds-tun, 10.9.8.1 with 10.9.8.2 behind it, and answers for the latter; ends after COUNT packets
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int fail(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	return 1;
}

static void address(struct sockaddr *to, const char *text)
{
	struct sockaddr_in in = {.sin_family = AF_INET};

	inet_pton(AF_INET, text, &in.sin_addr);
	memcpy(to, &in, sizeof(in));
}

static uint16_t checksum(const uint8_t *at, size_t bytes)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < bytes; i += 2)
		sum += (uint32_t)(at[i] << 8 | at[i + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~(sum + (sum >> 16));
}

/* Return: the answer's length; 0: it is none of ours. */
static size_t turn(uint8_t *packet, size_t bytes)
{
	struct iphdr ip;
	struct udphdr udp;
	size_t head, text;

	if (bytes < sizeof(ip) + sizeof(udp) || packet[0] >> 4 != 4)
		return 0;
	memcpy(&ip, packet, sizeof(ip));
	head = (size_t)ip.ihl * 4;
	if (ip.protocol != IPPROTO_UDP || head < sizeof(ip) || bytes < head + sizeof(udp))
		return 0;
	memcpy(&udp, packet + head, sizeof(udp));
	text = bytes - head - sizeof(udp);
	for (size_t i = 0; i < text / 2; i++) {
		uint8_t *a = packet + bytes - text + i, *b = packet + bytes - 1 - i, was = *a;

		*a = *b;
		*b = was;
	}
	udp = (struct udphdr){.source = udp.dest, .dest = udp.source, .len = udp.len};
	memcpy(packet + head, &udp, sizeof(udp));
	ip.check = 0;
	ip.ttl = 64;
	ip = (struct iphdr){.version = 4, .ihl = ip.ihl, .tot_len = ip.tot_len, .ttl = 64, .protocol = IPPROTO_UDP, .saddr = ip.daddr, .daddr = ip.saddr};
	memcpy(packet, &ip, sizeof(ip));
	ip.check = htons(checksum(packet, head));
	memcpy(packet, &ip, sizeof(ip));
	return bytes;
}

int main(int argc, char **argv)
{
	struct ifreq want = {.ifr_name = "ds-tun", .ifr_flags = IFF_TUN | IFF_NO_PI};
	const int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC), s = socket(AF_INET, SOCK_DGRAM, 0);
	int left = argc > 1 ? atoi(argv[1]) : 1;
	uint8_t packet[2048];

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (tun < 0 || s < 0 || ioctl(tun, TUNSETIFF, &want))
		return fail("ds-tun");
	address(&want.ifr_addr, "10.9.8.1");
	if (ioctl(s, SIOCSIFADDR, &want))
		return fail("its address");
	address(&want.ifr_dstaddr, "10.9.8.2");
	if (ioctl(s, SIOCSIFDSTADDR, &want))
		return fail("its neighbour's address");
	want.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(s, SIOCSIFFLAGS, &want))
		return fail("switching it on");
	puts("up");
	while (left) {
		const ssize_t n = read(tun, packet, sizeof(packet));
		const size_t answer = n > 0 ? turn(packet, (size_t)n) : 0;

		if (n < 0)
			return fail("read");
		if (!answer)
			continue;
		if (write(tun, packet, answer) != (ssize_t)answer)
			return fail("write");
		left--;
	}
	puts("answered");
	return 0;
}
