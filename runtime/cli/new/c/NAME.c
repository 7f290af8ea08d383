// What this finds, and how.
//
// Build: ./build.sh
#include "tocsin.h"

TOCSIN_MANIFEST("manifest.json")
TOCSIN_NO_CONFIG

TOCSIN_DETECT(batch) {
	tocsin_text command = tocsin_text_column(batch, 0);
	for (uint32_t row = 0; row < batch->rows; row++)
		if (tocsin_contains_nocase(tocsin_text_at(command, row), "mimikatz")) TOCSIN_HIT(batch, row, 1, 0);
	return TOCSIN_OK;
}
