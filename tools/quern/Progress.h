//===- Progress.h - What is being done, and how long it takes ---*- C++ -*-===//
//
// Shared by the commands that take a while.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_TOOLS_PROGRESS_H
#define QUERN_TOOLS_PROGRESS_H

#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"
#include <chrono>
#include <string>

namespace quern::tool {

/// One line on a terminal: what is being done, and how long it will take.
class ProgressLine {
public:
  bool operator()(llvm::StringRef phase, double fraction) {
    auto now = Clock::now();
    if (phase != current) {
      current = phase.str();
      start = now;
      begun = fraction; // not zero where an interrupted run goes on
    } else if (now - shown < std::chrono::milliseconds(100)) {
      return true;
    }
    shown = now;
    double seconds = std::chrono::duration<double>(now - start).count();
    llvm::errs() << "\r\x1b[K" << current;
    if (fraction > 0) {
      llvm::errs() << llvm::format(" %3.0f %%", fraction * 100);
      if (seconds > 0.5 && fraction > begun && fraction < 1)
        llvm::errs() << llvm::format(", %.0f s left",
                                     seconds / (fraction - begun) * (1 - fraction));
    }
    any = true;
    return true;
  }
  ~ProgressLine() {
    if (any)
      llvm::errs() << "\r\x1b[K";
  }

private:
  using Clock = std::chrono::steady_clock;
  std::string current;
  Clock::time_point start, shown;
  double begun = 0;
  bool any = false;
};

} // namespace quern::tool

#endif // QUERN_TOOLS_PROGRESS_H
