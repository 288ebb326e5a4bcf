// Codes of few bits for a trained model, chosen by what passes through its maps.
#pragma once

#include "qtf/compress/calibration.h"
#include "qtf/model/quantized_weights.h"
#include "qtf/model/transformer.h"

namespace qtf::compress {

/// Codes whose error ΔW costs little of tr(ΔW·M·ΔWᵀ), M[cols, cols] symmetric: columns are rounded one after
/// the other, and what one misses is made up for by those after it, as far as M lets them (GPTQ: Frantar et
/// al. 2022, arXiv 2210.17323). So every prefix of the columns is coded as well as it would be alone. f16:
/// the nearest halves. Throws InputError for numbers beyond half floats.
QuantizedNumbers quantize_with_feedback(ConstMatrix<float> w, ConstMatrix<double> moment,
                                        const Coding& coding);

/// All maps of `model`, by the calibration of its dense function. Of a chain with one mode a side V is coded
/// first, by its inputs, then U is fitted anew to what V has become, level after level, and coded by V's
/// outputs. Shapes of more modes get their nearest codes. The same bits for any number of threads.
model::QuantizedWeights quantize(const model::Transformer<float>& model, const Calibration& calibration,
                                 const Coding& coding, ThreadPool& pool);

}  // namespace qtf::compress
