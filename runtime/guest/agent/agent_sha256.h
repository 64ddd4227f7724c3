/* agent_sha256.h - SHA-256 of a file, for hosts whose policy asks which program it is (FIPS 180-4) */
#ifndef GUEST_AGENT_SHA256_H
#define GUEST_AGENT_SHA256_H

#include <stdint.h>

/**
 * agent_sha256_fd() - Digest of what @fd delivers from where it is to its end
 * @digest: filled in
 *
 * Return: 0, or the -errno of read().
 */
int agent_sha256_fd(int fd, uint8_t digest[static 32]);

#endif
