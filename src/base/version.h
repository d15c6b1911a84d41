/* version.h - the version as text, made of the numbers in the public header. */
#ifndef LU_VERSION_H
#define LU_VERSION_H

#include "lucid/lucid.h"

#define LU_VERSION_TEXT_(major, minor, patch) #major "." #minor "." #patch
#define LU_VERSION_TEXT_OF(major, minor, patch) LU_VERSION_TEXT_(major, minor, patch)
#define LU_VERSION_TEXT \
    LU_VERSION_TEXT_OF(LUCID_VERSION_MAJOR, LUCID_VERSION_MINOR, LUCID_VERSION_PATCH)

#endif
