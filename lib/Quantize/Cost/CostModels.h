// What the table of cost models lists from other files. Private to lib/Quantize/Cost.
#ifndef QUERN_LIB_QUANTIZE_COST_COSTMODELS_H
#define QUERN_LIB_QUANTIZE_COST_COSTMODELS_H

#include "quern/Quantize/Cost.h"

namespace quern::quantize {
llvm::Expected<std::unique_ptr<CostModel>> createTimeModel(llvm::StringRef path);
} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_COST_COSTMODELS_H
