/* stores.h - a place to look at after every store that reveals something. Included by force in
 * front of a file of the library; the program has the function. */
#ifndef STORES_H
#define STORES_H

void stores_point(const volatile void *address);

#define __atomic_store_n(p, value, order)         \
    ({                                            \
        __atomic_store_n(p, value, order);        \
        stores_point((const volatile void *)(p)); \
    })

#endif
