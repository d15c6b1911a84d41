/* scripts_cache.h - the scripts about object caches: the table of scripts.c has them. */
#ifndef SCRIPTS_CACHE_H
#define SCRIPTS_CACHE_H

void caches_prepare(void);
void caches_use(void);
void caches_use_many(void);
void caches_reap(void);
void caches_use_and_end(void);
void caches_fork_then_use(void);
void caches_free_same(void);
void caches_check(void);
void caches_check_same(void);

#endif
