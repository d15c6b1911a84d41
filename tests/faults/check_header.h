/* check_header.h - every_call: the functions that may be refused are those of os.h. */
#ifndef CHECK_HEADER_H
#define CHECK_HEADER_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "os_fault.h"

/* A function of os.h that can fail and that os_sites.h does not know would not be noticed. */
static void check_header(void) {
    char line[256];
    size_t known = 0;
    FILE *header = fopen(OS_HEADER, "r");
    CHECK_THAT(header != NULL, "%s cannot be read", OS_HEADER);
    while (fgets(line, sizeof line, header) != NULL) {
        const char *name = strstr(line, " lu__os_");
        bool declared = strncmp(line, "int ", 4) == 0 || strstr(line, "LU_MUST_CHECK") != NULL;
        if (name == NULL || !declared) continue;
        size_t length = strcspn(++name, "(");
        CHECK_THAT(os_fault_knows(name, length), "os_sites.h does not know %.*s", (int)length,
                   name);
        known++;
    }
    fclose(header);
    CHECK_THAT(known >= 10, "only %zu functions of os.h found", known);
}

#endif
