/* The C interface of the kernels: what every file in this folder offers to the .pxi files.
 *
 * Kernels are single-threaded, allocate nothing and touch nothing outside their arguments.
 * Sizes are counted in floats. Activations are channel planes ("CHW"): a plane may hold a zero
 * border ("halo") around its pixels, so that a convolution never tests for the edge:
 *
 *     plane = [ lead zeros | row 0 | gap | row 1 | gap | ... | zeros ]
 *
 * where the gap between two rows serves as the right border of one and the left border of the
 * next. A stride-1 convolution then is one walk over a flat run of pixels, gaps included: output
 * position f reads input position f + (a constant per weight). What is computed for a gap is
 * thrown away when the tile is stored.
 */
#ifndef SCNN_H
#define SCNN_H

#include <stddef.h>
#include <stdint.h>

/* Offsets of the input are read ahead, by words of so many bytes whose lowest bits come first: so
 * many entries without use must stand behind the last. */
#define SCNN_WORD 8
#define SCNN_AHEAD 8
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the kernels read words of offsets on little-endian processors only"
#endif

/* Whether the kernels for Intel's matrix unit (AMX) are compiled. */
#if defined(__x86_64__) && defined(__linux__) && (__GNUC__ >= 11 || __clang_major__ >= 12)
#define SCNN_AMX 1
#else
#define SCNN_AMX 0
#endif

/* The weights of a convolution as streams, in blocks of `rows` output channels that share their
 * input offsets (rows = 1: unstructured sparsity; a dense matrix is the fully filled case).
 * Entry e of block b, start[b] <= e < start[b + 1], adds value[e * rows + r] times the input at
 * origin + (offset[e] << unit).
 *
 * A wide layer is cut into several matrices by input channels, so that the pixels one of them
 * reads stay in the first-level cache. Sums travel from one to the next in `partial` memory. */
typedef struct {
    const int64_t *start;  /* blocks + 1 */
    const void *offset;    /* uint16_t or uint32_t, see offset_bytes; SCNN_AHEAD more than entries */
    const float *value;    /* rows values an entry */
    const float *bias;     /* rows values a block */
    const float *slope;    /* of negative results, rows values a block; NULL: none */
    const int32_t *channel; /* output channel of each row; -1: the row only fills up a block */
    int32_t rows;
    int32_t offset_bytes;  /* 2 or 4 */
    int32_t unit;          /* offsets count steps of 1 << unit floats */
    int64_t origin;
    int64_t step;          /* floats from each entry of a block to the next, from the origin on; 0: any */
    int32_t first, last;   /* begins with the bias; finishes and stores */
    float low, high;       /* the result is clamped to [low, high] */
} scnn_matrix;

/* How the vectors of a flat run are put into the output plane.
 *
 * whole: as they lie in the run, with all their lanes; those outside keep[v], which fall into gaps, as
 * zeros; the last vector, number `last`, with the lanes `tail`.
 * Otherwise in pieces, in the order of their places: of piece p of vector v = vector[p], piece[v] <= p <
 * piece[v + 1], lanes order[p * lanes] … become neighbours from plane position place[p] on, as many as
 * lane[p] has bits (the low ones). The zeros that a full store writes behind them lie in a gap, or
 * other pieces of the tile come there later. */
typedef struct {
    const uint32_t *keep;
    int32_t whole;
    int32_t last;
    uint32_t tail;
    const int32_t *piece;
    const int32_t *vector;
    const int32_t *place;
    const uint32_t *lane;
    const uint8_t *order;
} scnn_store;

/* One tile of a convolution: blocks [block_begin, block_end) times `vectors` vectors of the flat
 * run that begin at vector `first`. `in` points at the tile's first position for offset 0; `residual`,
 * where not NULL, has the planes of `out` and is added before the clamp. partial: rows × vectors
 * vectors a block, needed where the matrix is not both first and last. */
typedef void (*scnn_sconv_fn)(const scnn_matrix *matrix, int32_t block_begin, int32_t block_end,
                              const float *in, int32_t first, float *out, const float *residual,
                              int64_t out_plane, const scnn_store *store, float *partial);

/* Panels: the map of a result is cut into blocks, one a lane, and lane l of a vector holds pixels of
 * block l only; so what a tap reads begins with a vector wherever the tap lies. A panel holds, for a tile
 * of `rows` rows and `columns` columns of every block, `patches` of each input channel: patch i begins
 * with the input at start[i], and has beyond[i] rows and across[i] columns more than the tile. Its rows
 * lie `width` vectors apart. */
typedef struct {
    const int64_t *start;
    const int32_t *beyond, *across;
    const int64_t *block; /* where the block of each lane begins in a plane of the input */
    int32_t patches;
    int32_t rows, columns; /* of the largest tile, for which there is place */
    int32_t width;
    int64_t pitch; /* of the input */
} scnn_patches;

/* The patches of one channel for a tile of `rows` rows. `in` points at the tile's first pixel in the
 * block that begins a plane, for offset 0. */
typedef void (*scnn_fill_fn)(const scnn_patches *patches, const float *in, int32_t rows, float *out);

/* Where a tile on a panel goes: `out` points at its first pixel in the block that begins a plane, likewise
 * `residual` (NULL: nothing is added); block l begins at place[l], rows lie `pitch` apart. */
typedef struct {
    const int64_t *place;
    int64_t pitch, plane;
    float *out;
    const float *residual;
} scnn_panel_tile;

/* Blocks [block_begin, block_end) of single channels on a panel whose rows lie `width` floats apart, by
 * offsets of 16 bits. partial: a vector for each of the tile's, as of scnn_sconv_fn. */
typedef void (*scnn_panel_fn)(const scnn_matrix *matrix, int32_t block_begin, int32_t block_end,
                              const float *panel, int64_t width, const scnn_panel_tile *tile,
                              float *partial);

/* Finishes and stores one vector, number `first` of the run, of rows [row_begin, row_end): sums holds
 * a vector a row. The streams of the matrix are not read. */
typedef void (*scnn_finish_fn)(const scnn_matrix *matrix, int64_t row_begin, int64_t row_end,
                               const float *sums, int32_t first, float *out, const float *residual,
                               int64_t out_plane, const scnn_store *store);

/* Dense weights with vectors along output channels. Block b computes the channels that `channel`
 * lists for it, vectors · lanes a block, -1 fills up; its entries start[b] <= e < start[b + 1] add
 * `vectors` vectors of weights times the input at offset[e]. bias: vectors · lanes a block; slope:
 * of negative results, one a channel; NULL: none. */
typedef struct {
    const int64_t *start; /* blocks + 1 */
    const int32_t *offset;
    const float *weight;
    const float *bias;
    const float *slope;
    const int32_t *channel;
    float low, high; /* the result is clamped to [low, high] */
} scnn_dense;

/* Where a tile lies. `in` points at the input of the first pixel for offset 0, `out` at the first pixel
 * in the plane of channel 0, `residual` likewise (NULL: nothing is added); pitches: floats from row to
 * row. Pairs of rows fetch memory that is needed soon: from `ahead` on, `step` bytes an entry. */
typedef struct {
    const float *in, *residual;
    float *out;
    int64_t in_pitch, out_pitch, out_plane;
    const char *ahead;
    int64_t step;
} scnn_dense_tile;

/* All channels of a block × `pixels` neighbours of an output row (`dense`) or of two (`pair`). */
typedef void (*scnn_dense_fn)(const scnn_dense *dense, int64_t block, const scnn_dense_tile *tile);

/* Dense weights of a convolution in two or three bf16 numbers each (`f32_bf16_body.h`). The columns of
 * a group's matrix are its entries, in steps of 32, at each of `taps` shifts. Block b has the rows row[b]
 * … row[b + 1] of a matrix whose streams are not read, 16 or 32; its weights begin with number start[b]:
 * for each step and tap the first parts and then the others, for each 16 rows 16 pairs of entries ×
 * 16 rows × 2. */
typedef struct {
    const uint16_t *weight;
    const int64_t *start;
    const int64_t *row;    /* blocks + 1 */
    const int32_t *source; /* the first step of entries that each block reads */
    const int32_t *shift;  /* positions, one a tap */
    int32_t taps, steps;
} scnn_bf16;

/* Vectors first … first + count - 1 of the flat run. A position of a step is a line of 16 pairs of
 * entries; the lines of two steps lie `pitch` lines apart, the parts of a number `part` numbers. `lines`
 * begins with the position of vector `first` for shift 0; cache lines hold them. `out` and `residual`
 * as of scnn_sconv_fn. */
typedef struct {
    const uint32_t *lines;
    int64_t pitch, part;
    int32_t first, count;
    float *out;
    const float *residual;
    int64_t out_plane;
    const scnn_store *store;
} scnn_bf16_run;
typedef void (*scnn_bf16x3_fn)(const scnn_bf16 *conv, const scnn_matrix *matrix, int64_t block,
                               const scnn_bf16_run *run);
typedef scnn_bf16x3_fn scnn_bf16x6_fn;

/* `size` positions of the 32 entries of steps [begin, end) as `parts` bf16 numbers each: the nearest
 * one, and those nearest to what is left. Entry e begins at in + offset[e]; -1: it is zero. Whole
 * vectors of positions are written. */
typedef void (*scnn_split_fn)(int32_t parts, const int32_t *offset, int64_t begin, int64_t end,
                              const float *in, int64_t size, uint32_t *lines, int64_t pitch,
                              int64_t part);

/* Depthwise convolution of one plane. `in` points at the first tap of the first output pixel; whole
 * vectors are read from each row, up to 2 · lanes behind its last pixel. Between rows of the result zeros
 * may be written, before its first and behind its last pixel nothing. slope: of negative results; NULL:
 * none. */
typedef struct {
    int32_t out_height, out_width;
    int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
    int64_t in_pitch, out_pitch;
    float low, high; /* the result is clamped to [low, high] */
} scnn_dwconv;
typedef void (*scnn_dwconv_fn)(const scnn_dwconv *conv, const float *weights, float bias,
                               const float *slope, const float *in, float *out);

/* y[i] = bias[i] + sum_k w[i * k_size + k] * x[k] for rows [begin, end). */
typedef void (*scnn_gemv_fn)(const float *w, const float *bias, const float *x, float *y,
                             int64_t k_size, int64_t begin, int64_t end);

/* The same for sparse rows: entries start[i] .. start[i + 1] of (column, value). */
typedef void (*scnn_spmv_fn)(const int64_t *start, const uint16_t *column, const float *value,
                             const float *bias, const float *x, float *y, int64_t begin,
                             int64_t end);

/* The part of a sparse matrix whose rows fill steps: slices of SCNN_ELL_ROWS rows, windows of
 * as many columns as the kernel is for. In window w a row of slice s has up to steps[s * windows + w] entries; a
 * step is one entry (column in the window, value) of every row, 0 where a row has none. The steps
 * of slice s begin with number first[s]. Rows of slices [begin, end) of y = bias + w x. */
#define SCNN_ELL_ROWS 16
typedef struct {
    const int64_t *first;
    const uint8_t *steps, *column;
    const float *value;
    int64_t windows;
} scnn_ell;
typedef void (*scnn_ell_fn)(const scnn_ell *ell, const float *bias, const float *x, float *y,
                            int64_t begin, int64_t end);

/* Pooling of one plane; rows of the input lie in_pitch apart, of the output out_pitch.
 * scratch: 2 · (width + kernel_w + 16) floats. */
typedef struct {
    int32_t height, width, out_height, out_width;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
    int64_t in_pitch, out_pitch;
} scnn_pool;
typedef void (*scnn_maxpool_fn)(const scnn_pool *pool, const float *in, float *out, float *scratch);
typedef scnn_maxpool_fn scnn_avepool_fn;

/* Local response normalisation across channels of `size` positions that lie side by side, SCNN_LRN_STRIP at
 * most. */
#define SCNN_LRN_STRIP 256
typedef struct {
    int32_t channels, local_size;
    int64_t in_plane, out_plane;
    float alpha_over_n, beta, k;
} scnn_lrn;
typedef void (*scnn_lrn_fn)(const scnn_lrn *lrn, const float *in, float *out, int64_t size);

/* The same of one plane over windows of 2 · half + 1 pixels each way: y = x · (1 + share · Σ x²)^-beta.
 * scratch: width + 2 · half + 16 floats. */
typedef struct {
    int32_t height, width, half;
    int64_t in_pitch, out_pitch;
    float share, beta;
} scnn_lrn_within;
typedef void (*scnn_lrn_within_fn)(const scnn_lrn_within *lrn, const float *in, float *out,
                                   float *scratch);

/* y = exp(x - max) / sum over a run. */
typedef void (*scnn_softmax_fn)(const float *x, float *y, int64_t size);

/* out = clamp(slope(a * scale + shift)) over a run; slope 1: no change of negative values. */
typedef void (*scnn_affine_fn)(const float *in, float *out, int64_t size, float scale, float shift,
                               float slope, float low, float high);

/* out = a * ca + b * cb, a * b or max(a, b) over a run, then the clamp. */
typedef enum { SCNN_SUM = 0, SCNN_PROD = 1, SCNN_MAX = 2 } scnn_binary_op;
typedef void (*scnn_binary_fn)(int32_t op, const float *a, const float *b, float *out, int64_t size,
                               float ca, float cb, float low, float high);

/* Copy of rows into every stride-th place: the planes of a strided convolution's input. Phase
 * (row, column) of a plane takes the pixels at y * stride + row - pad, zero outside. */
typedef struct {
    int32_t height, width, rows, columns; /* of the input; of a phase plane */
    int32_t stride_h, stride_w;
    int64_t in_pitch, out_pitch;
} scnn_phase;
typedef void (*scnn_phase_fn)(const scnn_phase *phase, const float *in, float *out, int32_t top,
                              int32_t left);

/* Copy of `height` rows of `width` floats that lie side by side to places `pitch` apart. */
typedef void (*scnn_rows_fn)(const float *in, float *out, int32_t height, int32_t width,
                             int64_t pitch);

/* Max pooling of windows of a map into pyramids of bins. Cells hold SCNN_SPP_CHANNELS channels side
 * by side: map[(y * width + x) * SCNN_SPP_CHANNELS + c]. Tables lie one behind the other, `table`
 * floats apart: a cell of table k is the maximum of 2^k cells, its own and those below it; table 0 is
 * the map. Level l has bins[l] × bins[l] bins; those of a level with source[l] >= 0 are made of whole bins of that earlier level, the others of the
 * cells given by `bounds`: (begin, end) of every bin row of every level, then of every bin column.
 * A bin without cells gives 0. Results: out[at[l] + (first + c) * bins² + bin].
 * scratch: SCNN_SPP_CHANNELS floats a bin of all levels. */
#define SCNN_SPP_CHANNELS 16
typedef struct {
    int32_t levels, sides; /* sides: the sum of bins[l] */
    const int32_t *bins;
    const int32_t *source;
    const int32_t *bins_before; /* bins of the levels before each */
    const int64_t *at;
    int32_t width, tables;
    int64_t table;
    float lowest; /* where the maximum starts */
} scnn_spp;
typedef void (*scnn_spp_fn)(const scnn_spp *spp, const int32_t *bounds, const float *map,
                            float *scratch, float *out, int32_t first, int32_t channels);
/* Rows of table k + 1: out = max(upper, lower), rows of table k that lie 2^k apart. */
typedef void (*scnn_spp_rows_fn)(const float *upper, const float *lower, float lowest, float *out,
                                 int64_t size);

/* Winograd's form of a 3x3 convolution of stride 1: `tiles` tiles a row, each of m x m outputs. The
 * coefficients of a channel are (m + 2)² planes, `plane` apart, of one float a tile, row by row.
 *
 * in: rows first … first + rows - 1 of tiles of one input plane to coefficients; `in` points at the
 * first pixel. scratch: m · (m + 2) · ((rows + 1) · tiles + lanes) + m · (tiles + lanes + 1) floats.
 * out: coefficients to the pixels of one output plane; `out` and `residual` (or NULL: nothing is
 * added) point at the plane's first pixel. slope: of negative results; NULL: none. scratch:
 * m² · (rows · tiles + lanes) floats. */
typedef struct {
    int32_t m, tiles;
    int32_t height, width, pad_h, pad_w; /* of the input */
    int32_t out_height, out_width;
    int64_t in_pitch, out_pitch, plane;
    float low, high; /* the result is clamped to [low, high] */
} scnn_winograd;
typedef void (*scnn_winograd_in_fn)(const scnn_winograd *winograd, const float *in, int32_t first,
                                    int32_t rows, float *out, float *scratch);
typedef void (*scnn_winograd_out_fn)(const scnn_winograd *winograd, const float *in, int32_t first,
                                     int32_t rows, float bias, const float *slope, float *out,
                                     const float *residual, float *scratch);

typedef struct {
    const char *name; /* f32_<op>_<rows>x<vectors>__<isa>, or f32_<op>__<isa> */
    const char *op;
    const char *isa;
    int32_t rows, vectors; /* tile of sconv: channels × vectors of pixels; of panel: rows × columns; of
                            * dense and pair: pixels of a row × vectors of channels; else 0 */
    int32_t lanes;         /* floats in a vector */
    void (*run)(void);     /* one of the function types above, by op */
} scnn_kernel;

/* All kernels, best ISA first. */
extern const scnn_kernel scnn_kernels[];
extern const int32_t scnn_kernel_count;

/* The ISA tiers of the table, best first, and whether this processor (and OS) has each. */
extern const char *const scnn_isas[];
extern const int32_t scnn_isa_count;
int32_t scnn_isa_supported(int32_t isa);

/* Whether this processor has a matrix unit for bf16 numbers that the system lets this process use; asks
 * the system for it. */
int32_t scnn_amx_supported(void);

#endif
