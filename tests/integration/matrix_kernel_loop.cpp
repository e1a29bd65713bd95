// The loop of ggml-cuda's mul_mat_q (mmq.cuh) on the host: which tiles a block computes, and where it writes them.
//
// upstream.inc and ours.inc hold the kernel's text from upstream's sources and from the patched ones. One thread plays
// all threads of a block; a tile is not computed but written down. Ends with 1 where the two kernels differ.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#define __CUDA_ARCH__ 890
#define GGML_CUDA_CC_VOLTA 700
#define NO_DEVICE_CODE std::abort()
#define GGML_UNUSED(x) (void) (x)
#define MMQ_ITER_K 256
#define __global__
#define __restrict__
#define __shared__
#define __launch_bounds__(...)
#define __syncthreads()

struct uint2 { uint32_t x, y; };
struct uint3 { uint32_t x, y, z; };
struct block_q8_1_mmq { char bytes[144]; };
enum ggml_type { GGML_TYPE_Q4_0, GGML_TYPE_Q4_K, GGML_TYPE_NVFP4, GGML_TYPE_COUNT };
enum ggml_prec { GGML_PREC_Q8 };
template <ggml_type type> struct ggml_cuda_type_traits { static constexpr int qk = type == GGML_TYPE_Q4_K ? 256 : 32; };

static uint3 blockIdx, gridDim;
static constexpr uint3 threadIdx = {0, 0, 0};

template <class A, class B> auto min(A a, B b) { return a < b ? a : b; }

// Release 0.3.16
constexpr int get_mmq_x_max_device() { return 128; }
constexpr int mmq_get_granularity_device(int) { return 8; }
constexpr int mmq_get_nwarps_device() { return 1; }
constexpr int get_mmq_y_device() { return 128; }
constexpr int ggml_cuda_get_physical_warp_size() { return 1; }

// Release 0.3.36
struct ggml_cuda_mmq_config { ggml_type type; };
constexpr ggml_cuda_mmq_config ggml_cuda_mmq_get_config(ggml_type type, int, bool, ggml_prec) { return {type}; }
constexpr int  ggml_cuda_mmq_get_nthreads(ggml_type, int, bool, ggml_prec) { return 1; }
constexpr int  ggml_cuda_mmq_get_I       (ggml_type, int, bool, ggml_prec) { return 128; }
constexpr int  ggml_cuda_mmq_get_K_vram  (ggml_type, int, bool, ggml_prec) { return 256; }
constexpr bool ggml_cuda_mmq_get_stream_k(ggml_type, int, bool, ggml_prec) { return true; }
static uint32_t fastdiv(uint32_t n, uint3 d) { return n / d.z; }
static uint32_t fastmodulo(uint32_t n, uint3 d) { return n % d.z; }
static uint2 fast_div_modulo(uint32_t n, uint3 d) { return {n / d.z, n % d.z}; }

static const char * const X = nullptr;
static std::vector<int> Y(1);
static std::vector<float> DST(1), FIXUP(1), SCALE(1);

struct Tile {
    int64_t offset_x, y, dst, scale;
    int stride_row_x, ncols_y, stride_col_dst, max_i, max_j, kb0_start, kb0_stop;
    bool fixup;
    std::vector<int> ids;
    bool operator==(const Tile & o) const {
        return offset_x == o.offset_x && y == o.y && dst == o.dst && scale == o.scale && stride_row_x == o.stride_row_x &&
            ncols_y == o.ncols_y && stride_col_dst == o.stride_col_dst && max_i == o.max_i && max_j == o.max_j &&
            kb0_start == o.kb0_start && kb0_stop == o.kb0_stop && fixup == o.fixup && ids == o.ids;
    }
};
static std::vector<Tile> tiles;

static void note(int mmq_x, int offset_x, const int * y, const int * ids, float * dst, const float * scale, int stride_row_x,
        int ncols_y, int stride_col_dst, int max_i, int max_j, int kb0_start, int kb0_stop, bool fixup) {
    const int64_t at = scale ? scale - SCALE.data() : -1;
    tiles.push_back({offset_x, y - Y.data(), dst - DST.data(), at, stride_row_x, ncols_y, stride_col_dst, max_i, max_j,
        kb0_start, kb0_stop, fixup, std::vector<int>(ids, ids + mmq_x)});
}

namespace upstream {
int ids_dst_shared[128];
#ifdef SCALES
template <ggml_type, int J, bool, bool fixup, ggml_prec>
void mul_mat_q_process_tile(const char *, int offset_x, const int * y, const int * ids, float * dst, float *, const float * scale,
        int a, int b, int c, int d, int e, int f, int g) {
    note(J, offset_x, y, ids, dst, scale, a, b, c, d, e, f, g, fixup);
}
#else
template <ggml_type, int J, bool, bool fixup>
void mul_mat_q_process_tile(const char *, int offset_x, const int * y, const int * ids, float * dst, float *,
        int a, int b, int c, int d, int e, int f, int g) {
    note(J, offset_x, y, ids, dst, nullptr, a, b, c, d, e, f, g, fixup);
}
#endif
#include "upstream.inc"
}

namespace ours {
int ids_dst_shared[128];
#ifdef SCALES
template <ggml_type, int J, bool, ggml_prec>
void mul_mat_q_process_tile(const char *, int offset_x, const int * y, const int * ids, float * dst, float *, const float * scale,
        int a, int b, int c, int d, int e, int f, int g, bool fixup) {
    note(J, offset_x, y, ids, dst, scale, a, b, c, d, e, f, g, fixup);
}
#else
template <ggml_type, int J, bool>
void mul_mat_q_process_tile(const char *, int offset_x, const int * y, const int * ids, float * dst, float *,
        int a, int b, int c, int d, int e, int f, int g, bool fixup) {
    note(J, offset_x, y, ids, dst, nullptr, a, b, c, d, e, f, g, fixup);
}
#endif
#include "ours.inc"
}

static long cases, compared, fixups;

template <ggml_type type, int J> static void compare(std::mt19937 & random) {
    auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    constexpr int qk = ggml_cuda_type_traits<type>::qk;
    const int channels_x = pick(1, 3), samples_x = pick(1, 2), channels = channels_x*pick(1, 2), samples = samples_x*pick(1, 2);
    const bool experts = pick(0, 1);
    const int blocks = pick(1, 12)*(256/qk), rows = pick(1, 900), columns = pick(1, 400);
    std::vector<int> bounds = {0};
    for (int i = 0; i < channels; i++) {
        bounds.push_back(bounds.back() + pick(0, 2)*pick(0, columns)/2);
    }
    std::vector<int> ids(bounds.back() + 2*J + columns);
    for (int & id : ids) {
        id = pick(0, 100000);
    }
    gridDim = {uint32_t(pick(1, 150)), 1, 1};
    const int * chosen = experts ? ids.data() : nullptr;
    const int s = experts ? 1 : samples;
    const int strides[] = {pick(1, 99), pick(1, 99), pick(1, 99), pick(1, 99), pick(1, 99), pick(1, 99)};
    for (uint32_t block = 0; block < gridDim.x; block++) {
        blockIdx = {block, 0, 0};
        std::vector<Tile> found[2];
        for (int side = 0; side < 2; side++) {
            tiles.clear();
#ifdef SCALES
            auto kernel = side ? ours::mul_mat_q<type, J, true> : upstream::mul_mat_q<type, J, true>;
            auto value = [](int z) { return uint3{0, 0, uint32_t(z)}; };
            kernel(X, Y.data(), chosen, bounds.data(), DST.data(), FIXUP.data(), SCALE.data(), value(blocks), rows, columns, 77,
                columns, 99, value(channels/channels_x), value(channels), strides[0], strides[1], strides[2],
                value(samples/samples_x), value(s), strides[3], strides[4], strides[5], value((columns + J - 1)/J));
#else
            auto kernel = side ? ours::mul_mat_q<type, J, true> : upstream::mul_mat_q<type, J, true>;
            kernel(X, Y.data(), chosen, bounds.data(), DST.data(), FIXUP.data(), blocks*qk, rows, columns, 77, columns, 99,
                channels/channels_x, channels, strides[0], strides[1], strides[2], samples/samples_x, s, strides[3], strides[4],
                strides[5]);
#endif
            found[side] = tiles;
        }
        if (!(found[0] == found[1])) {
            std::printf("differs: J %d, %d x %d, %d blocks, grid %u, block %u, experts %d\n", J, rows, columns, blocks, gridDim.x,
                block, experts);
            std::exit(1);
        }
        compared += found[0].size();
        for (const Tile & tile : found[0]) {
            fixups += tile.fixup;
        }
    }
    cases++;
}

int main() {
    std::mt19937 random(20260101);
    for (int i = 0; i < 400; i++) {
        compare<GGML_TYPE_Q4_0,   8>(random);
        compare<GGML_TYPE_Q4_0,  64>(random);
        compare<GGML_TYPE_Q4_K, 128>(random);
        compare<GGML_TYPE_NVFP4, 48>(random);
    }
    std::printf("%ld cases, %ld tiles, %ld of them for the fixup\n", cases, compared, fixups);
}
