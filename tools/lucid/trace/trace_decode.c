/*
 * trace_decode.c - the events of one chunk, one after the other (docs/TRACE.md, "Events").
 *
 *     tag  [time]  [address or index]  [size]  [alignment]  [time, new address]  [site]
 *
 * The decoder knows what the writer knew: the last time, address and site, and the tables of
 * addresses and sites that were seen. Nothing is believed: a number that does not fit, an unknown
 * tag, or an event that is cut makes the chunk bad, and `at` then is the byte where that event
 * begins.
 */
#include "trace/trace_chunks.h"

#include <string.h>

void trace_decoder_init(struct trace_decoder *decoder, const struct trace_chunks *chunks,
                        const struct trace_place *place, const uint8_t *events) {
    memset(decoder, 0, sizeof(*decoder));
    decoder->start = decoder->at = events;
    decoder->end = events + place->plain_bytes;
    decoder->tick = place->tick;
    decoder->most_ticks = UINT64_MAX >> chunks->tick_shift;
    decoder->has_sites = (chunks->flags & TRACE_SITES) != 0;
}

static bool take_byte(struct trace_decoder *decoder, unsigned *out) {
    if (decoder->at == decoder->end) return false;
    *out = *decoder->at++;
    return true;
}

/* Seven bits a byte, the lowest first; the highest bit says that more follow. */
static bool take_number(struct trace_decoder *decoder, uint64_t *out) {
    unsigned byte;
    *out = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (!take_byte(decoder, &byte)) return false;
        if (shift == 63 && byte > 1) return false;
        *out |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return true;
    }
    return false;
}

static bool pass_time(struct trace_decoder *decoder, uint64_t ticks) {
    if (decoder->tick > decoder->most_ticks || ticks > decoder->most_ticks - decoder->tick)
        return false;
    decoder->tick += ticks;
    return true;
}

static bool take_time(struct trace_decoder *decoder, unsigned tag) {
    uint64_t ticks = tag >> TRACE_TIME_SHIFT, more = 0;
    if (ticks == TRACE_LONG_TIME && !take_number(decoder, &more)) return false;
    return pass_time(decoder, ticks) && pass_time(decoder, more);
}

static bool take_address(struct trace_decoder *decoder, unsigned tag, uint64_t *out) {
    unsigned low = tag >> TRACE_ADDRESS_SHIFT & 3, byte;
    uint64_t far;
    if ((tag & TRACE_KNOWN) != 0) {
        if (!take_byte(decoder, &byte)) return false;
        decoder->address = decoder->table[low << 8 | byte];
    } else {
        if (!take_number(decoder, &far) || far >> 62 != 0) return false;
        decoder->address += trace_unzigzag(far << 2 | low);
        decoder->table[trace_table_index(decoder->address)] = decoder->address;
    }
    *out = trace_rotate_back(decoder->address);
    return true;
}

static bool take_resize(struct trace_decoder *decoder, struct trace_record *record) {
    uint64_t ticks, far;
    if (!take_number(decoder, &record->size) || !take_number(decoder, &ticks) ||
        !take_number(decoder, &far) || !pass_time(decoder, ticks))
        return false;
    record->end_tick = decoder->tick;
    decoder->address += trace_unzigzag(far);
    decoder->table[trace_table_index(decoder->address)] = decoder->address;
    record->new_address = trace_rotate_back(decoder->address);
    return true;
}

static bool take_site(struct trace_decoder *decoder, uint64_t *out) {
    unsigned index;
    uint64_t far;
    if (!take_byte(decoder, &index)) return false;
    if (index < TRACE_SITE_TABLE) {
        decoder->site = decoder->sites[index];
    } else {
        if (!take_number(decoder, &far)) return false;
        decoder->site += trace_unzigzag(far);
        decoder->sites[trace_site_index(decoder->site)] = decoder->site;
    }
    *out = decoder->site;
    return true;
}

static bool take_rest(struct trace_decoder *decoder, unsigned tag, struct trace_record *record) {
    unsigned align;
    record->tag = tag & 7;
    if (record->tag == TRACE_TAG_THREAD_END) return (tag & 0x38) == 0;
    if (!take_address(decoder, tag, &record->address)) return false;
    switch (record->tag) {
    case TRACE_TAG_FREE:
        break;
    case TRACE_TAG_RESIZE:
        if (!take_resize(decoder, record)) return false;
        break;
    case TRACE_TAG_MALLOC:
    case TRACE_TAG_CALLOC:
        if (!take_number(decoder, &record->size)) return false;
        break;
    case TRACE_TAG_ALIGNED:
        if (!take_number(decoder, &record->size) || !take_byte(decoder, &align) || align > 63)
            return false;
        record->align = (uint64_t)1 << align;
        break;
    default:
        return false;
    }
    return !decoder->has_sites || take_site(decoder, &record->site);
}

enum trace_decoded trace_decode(struct trace_decoder *decoder, struct trace_record *record) {
    const uint8_t *begin = decoder->at;
    unsigned tag;
    if (!take_byte(decoder, &tag)) return TRACE_DECODED_ALL;
    memset(record, 0, sizeof(*record));
    if (take_time(decoder, tag)) {
        record->tick = decoder->tick;
        if (take_rest(decoder, tag, record)) return TRACE_DECODED;
    }
    decoder->at = begin;
    return TRACE_DECODED_BAD;
}
