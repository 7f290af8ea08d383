// A map: of a text its length in bytes and the text with its length before it, of a number its double; nulls stay null.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O3 -msimd128 -Wall -Wextra -I../../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o length.wasm length.c
#include "tocsin.h"

TOCSIN_MANIFEST("length.json")
TOCSIN_NO_CONFIG

TOCSIN_MAP(batch) {
	tocsin_text texts = tocsin_text_column(batch, 0);
	const int64_t *numbers = (const int64_t *)tocsin_values(batch, 1);
	tocsin_columns_begin(batch, 3);
	uint32_t *length = (uint32_t *)tocsin_column_begin(batch, 0, TOCSIN_U32);
	double *twice = (double *)tocsin_column_begin(batch, 1, TOCSIN_F64);
	if (!length || !twice || !tocsin_column_begin(batch, 2, TOCSIN_UTF8)) return tocsin_room(batch);
	for (uint32_t row = 0; row < batch->rows; row++) {
		tocsin_str text = tocsin_text_at(texts, row);
		uint8_t digits[11];
		uint32_t n = sizeof digits;
		digits[--n] = ':';
		uint32_t left = text.len;
		do digits[--n] = (uint8_t)('0' + left % 10);
		while (left /= 10);
		length[row] = text.len;
		twice[row] = 2 * (double)numbers[row];
		tocsin_append_text(batch, 2, row, (tocsin_str){digits + n, sizeof digits - n});
		if (tocsin_is_null(batch, 0, row)) {
			tocsin_set_null(batch, 0, row);
			tocsin_set_null(batch, 2, row);
		} else { // behind the digits: both make the row's text
			tocsin_append_text(batch, 2, row, text);
		}
		if (tocsin_is_null(batch, 1, row)) tocsin_set_null(batch, 1, row);
	}
	return tocsin_room(batch);
}
