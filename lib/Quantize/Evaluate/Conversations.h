//===- Conversations.h - Conversations to calibrate with ---------*- C++ -*-===//
//
// Private to lib/Quantize.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_LIB_QUANTIZE_EVALUATE_CONVERSATIONS_H
#define QUERN_LIB_QUANTIZE_EVALUATE_CONVERSATIONS_H

#include "quern/Quantize/Calibrate.h"

namespace quern::quantize {

/// The conversations of `source`, as many as its share says, spread evenly, each rendered by the
/// chat format of `model`. One of more than `window` tokens is cut into sequences of at most as
/// many. `prefix` goes in front of each that does not begin with it.
llvm::Expected<std::vector<std::vector<int32_t>>> readConversations(llvm::StringRef model,
                                                                    const TextSource &source,
                                                                    int64_t window,
                                                                    llvm::ArrayRef<int32_t> prefix);

} // namespace quern::quantize

#endif // QUERN_LIB_QUANTIZE_EVALUATE_CONVERSATIONS_H
