/* hist.c - histograms of run lengths, as the database stores them (see hist.h) */
#include "analysis/hist.h"

#include <errno.h>

static const char *skip_blank(const char *p)
{
	while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')
		p++;
	return p;
}

int hist_add_json(struct hist *h, const char *text)
{
	struct hist got = {0};
	const char *p = skip_blank(text);
	unsigned int n = 0;

	if (*p++ != '[')
		return -EINVAL;
	p = skip_blank(p);
	while (*p != ']') {
		uint64_t v = 0;

		if (n && *p++ != ',')
			return -EINVAL;
		p = skip_blank(p);
		if (*p < '0' || *p > '9')
			return -EINVAL;
		if (n == HIST_BINS)
			return -E2BIG;
		for (; *p >= '0' && *p <= '9'; p++) {
			v = v * 10 + (uint64_t)(*p - '0');
			if (v >> 53)
				return -ERANGE;
		}
		got.bin[n++] = v;
		p = skip_blank(p);
	}
	if (*skip_blank(p + 1))
		return -EINVAL;
	hist_add(h, &got);
	return 0;
}

void hist_add(struct hist *to, const struct hist *from)
{
	for (unsigned int i = 0; i < HIST_BINS; i++)
		to->bin[i] += from->bin[i];
}

uint64_t hist_shorter(const struct hist *h, unsigned int bits)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < bits && i < HIST_BINS; i++)
		n += h->bin[i];
	return n;
}

uint64_t hist_total(const struct hist *h)
{
	return hist_shorter(h, HIST_BINS);
}

unsigned int hist_used(const struct hist *h)
{
	unsigned int n = HIST_BINS;

	while (n && !h->bin[n - 1])
		n--;
	return n;
}
