// Element types, instruction sets and operands.
#pragma once

#include <stdint.h>

typedef enum {
    MARTLET_FLOAT32,
    MARTLET_FLOAT64,
    MARTLET_INT32,
    MARTLET_UINT8,
    MARTLET_BOOL,
    MARTLET_ELEMENT_COUNT,
} martlet_element;

/// Instruction sets (ISA), narrowest vectors first.
typedef enum {
    MARTLET_PORTABLE,
    MARTLET_AVX2,
    MARTLET_AVX512,
    MARTLET_ISA_COUNT,
} martlet_isa;

/// The one with the widest vectors that this processor and this build have.
martlet_isa martlet_best_isa(void);

/// Where an operand's elements come from, in place of the number of a value.
enum {
    /// Memory of the group's own: the product or the reduced values.
    MARTLET_SOURCE_WORK = -1,
    /// The int32 element is the position itself.
    MARTLET_SOURCE_POSITION = -2,
};

/// The deepest loop nest, after dimensions have been joined.
enum { MARTLET_MAXIMUM_RANK = 12 };

/// An affine view over the axes of an iteration; strides and offsets count elements.
typedef struct {
    /// An index into the table of values, or one of the sources above.
    int32_t source;
    int32_t element;
    int64_t offset;
    int64_t strides[MARTLET_MAXIMUM_RANK];
} martlet_operand;

/// Bytes of one element.
static inline int32_t martlet_element_size(int32_t element) {
    return element == MARTLET_FLOAT64 ? 8 : element == MARTLET_FLOAT32 || element == MARTLET_INT32 ? 4 : 1;
}
