/* lab_overcommit.h - the kernel's rule for promises of memory, vm.overcommit_memory. */
#ifndef LUCID_LAB_OVERCOMMIT_H
#define LUCID_LAB_OVERCOMMIT_H

/* What it is: 0, 1 or 2. */
int lab_overcommit_mode(void);

/* Bad input if this process may not change it. */
void lab_overcommit_check(void);

/* From the first to the last the rule may be changed; it is then what it was before, and also if
 * this process ends or is killed in between. */
void lab_overcommit_begin(void);
void lab_overcommit_set(int mode);
void lab_overcommit_end(void);

#endif
