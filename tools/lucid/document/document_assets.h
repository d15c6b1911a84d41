/* document_assets.h - the fixed parts of a page (document_assets.c); each ends with a NUL. */
#ifndef LUCID_DOCUMENT_ASSETS_H
#define LUCID_DOCUMENT_ASSETS_H

extern const char document_asset_html[], document_asset_style[], document_asset_chart[],
    document_asset_script[];

#endif
