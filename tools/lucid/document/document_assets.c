/*
 * document_assets.c - the fixed parts of a page, put into the program by the assembler.
 *
 *     document_asset_html     page/page.html, with places for the others: @@STYLE@@ …
 *     document_asset_style    page/page.css
 *     document_asset_script   page/core.js charts.js heap.js … one after the other
 *     document_asset_chart    the chart library, as the system's package has it
 *
 * The build says where the files are (PAGE_…), and builds this file again when one changes. Each
 * ends with a NUL. CMakeLists.txt of this directory says where the chart library comes from.
 */
#include "document/document_assets.h"

#define ASSET_BEGIN(name)                                                                 \
    ".pushsection .rodata\n.global document_asset_" #name "\n.type document_asset_" #name \
    ", @object\ndocument_asset_" #name ":\n"
#define ASSET_END(name) \
    ".byte 0\n.size document_asset_" #name ", . - document_asset_" #name "\n.popsection\n"
#define ASSET_FILE(path) ".incbin \"" path "\"\n"

__asm__(ASSET_BEGIN(html) ASSET_FILE(PAGE_HTML) ASSET_END(html));
__asm__(ASSET_BEGIN(style) ASSET_FILE(PAGE_STYLE) ASSET_END(style));
__asm__(ASSET_BEGIN(chart) ASSET_FILE(PAGE_CHART) ASSET_END(chart));
__asm__(ASSET_BEGIN(script) ASSET_FILE(PAGE_CORE) ASSET_FILE(PAGE_CHARTS) ASSET_FILE(PAGE_HEAP)
            ASSET_FILE(PAGE_HEAPDRAW) ASSET_FILE(PAGE_ADDRESSES) ASSET_FILE(PAGE_MAIN)
                ASSET_END(script));
