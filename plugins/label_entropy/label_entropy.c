// The longest label of a domain name and its entropy, in bits a character: names that carry data are longer and more random than
// names that people give.
//
// Build, from this folder:
//	python3 -m ziglang cc --target=wasm32-freestanding -O3 -msimd128 -Wall -Wextra -I../../sdk/c -nostdlib -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 -o label_entropy.wasm label_entropy.c
#include "tocsin.h"

TOCSIN_MANIFEST("manifest.json")

enum { MOST = 255 }; // characters of a label that count

static double log2_of[MOST + 1];

// ln k is ln (k-1) + 2 atanh(1 / (2k-1)), whose series ends soon.
TOCSIN_INIT(config) {
	(void)config;
	double ln = 0;
	for (int k = 2; k <= MOST; k++) {
		double z = 1.0 / (2 * k - 1), power = z, sum = 0;
		for (int i = 1; i < 40; i += 2) {
			sum += power / i;
			power *= z * z;
		}
		ln += 2 * sum;
		log2_of[k] = ln;
	}
	double ln2 = log2_of[2];
	for (int k = 2; k <= MOST; k++) log2_of[k] /= ln2;
	return TOCSIN_OK;
}

// longest is the longest label, the first of several.
static tocsin_str longest(tocsin_str name) {
	tocsin_str best = {name.at, 0};
	for (uint32_t from = 0, i = 0; i <= name.len; i++) {
		if (i < name.len && name.at[i] != '.') continue;
		if (i - from > best.len) best = (tocsin_str){name.at + from, i - from};
		from = i + 1;
	}
	return best;
}

// entropy is that of a label's bytes, letters without case, to three digits.
static double entropy(tocsin_str label) {
	static uint8_t count[256]; // zeros between two labels
	uint32_t n = label.len < MOST ? label.len : MOST;
	double sum = 0;
	for (uint32_t i = 0; i < n; i++) count[tocsin_lower(label.at[i])]++;
	for (uint32_t i = 0; i < n; i++) {
		uint8_t *c = &count[tocsin_lower(label.at[i])];
		sum += *c * log2_of[*c];
		*c = 0; // each byte once
	}
	return n ? __builtin_floor(1000 * (log2_of[n] - sum / n) + 0.5) / 1000 : 0;
}

TOCSIN_MAP(batch) {
	tocsin_text names = tocsin_text_column(batch, 0);
	tocsin_columns_begin(batch, 3);
	double *bits = (double *)tocsin_column_begin(batch, 0, TOCSIN_F64);
	uint32_t *length = (uint32_t *)tocsin_column_begin(batch, 1, TOCSIN_U32);
	if (!bits || !length || !tocsin_column_begin(batch, 2, TOCSIN_UTF8)) return tocsin_room(batch);
	for (uint32_t row = 0; row < batch->rows; row++) {
		tocsin_str label = longest(tocsin_text_at(names, row));
		bits[row] = entropy(label);
		length[row] = label.len;
		tocsin_append_text(batch, 2, row, label);
	}
	return tocsin_room(batch);
}
