// What the table of providers lists from other files. Private to lib/Quantize/Sensitivity.
#ifndef QUERN_LIB_QUANTIZE_SENSITIVITY_PROVIDERS_H
#define QUERN_LIB_QUANTIZE_SENSITIVITY_PROVIDERS_H

#include "quern/Quantize/Sensitivity.h"

namespace quern::quantize {
Losses hutchinsonLosses(const Subject &subject);
Losses traceLosses(const Subject &subject);
Losses eigenvalueLosses(const Subject &subject);
Losses columnLosses(const Subject &subject);
} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_SENSITIVITY_PROVIDERS_H
