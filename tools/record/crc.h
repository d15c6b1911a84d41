/* crc.h - CRC-32C (Castagnoli), as in iSCSI and ext4. */
#ifndef LUCID_CRC_H
#define LUCID_CRC_H

#include <stddef.h>
#include <stdint.h>

/* The CRC of what `crc` is of, followed by these bytes; begin with 0. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t count);

#endif
