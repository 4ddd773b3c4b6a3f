//===- Measure.cpp - quern measure ----------------------------------------===//
//
// Times of the kernels that a model could be made of, on this host, as a file.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Measure.h"
#include "Arguments.h"
#include "Commands.h"
#include "Progress.h"
#include "quern/Format/Known.h"
#include "quern/Format/Size.h"
#include "quern/Quantize/Quantize.h"
#include "quern/Support/OutputFile.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include <unistd.h>

namespace quern::tool {

static const char usage[] =
    "usage: quern measure MODEL [-o FILE] [options]\n\n"
    "Compiles the products of a model in the formats that `quern quantize` chooses from and times\n"
    "them on this host, one token at a time. `quern quantize --cost time=FILE` uses the file.\n"
    "Times are the host's: the same file is never made twice.\n\n"
    "  -o FILE           the times as JSON\n"
    "  --formats F,F     names or spellings, as of `quern quantize` (default:\n"
    "                    its defaults)\n"
    "  --seconds S       for each kernel, about (default: 0.05)\n"
    "  --threads N       (default: all cores)\n"
    "  --force           overwrite FILE\n";

int measureKernels(int argc, char **argv) {
  quantize::MeasureOptions options;
  std::string output;
  bool force = false, help = false;
  Arguments arguments;
  arguments.option("-o", output);
  arguments.number("--threads", options.threads);
  arguments.flag("--force", force);
  arguments.option("--formats", [&](llvm::StringRef text) {
    options.formats = quantize::splitFormats(text);
    return llvm::Error::success();
  });
  arguments.option("--seconds", [&](llvm::StringRef text) -> llvm::Error {
    if (text.getAsDouble(options.seconds) || !(options.seconds >= 0) || options.seconds > 60)
      return llvm::createStringError("'--seconds' needs a number up to 60, not '" + text + "'");
    return llvm::Error::success();
  });
  llvm::Expected<std::vector<std::string>> rest = arguments.parse(argc, argv, help);
  if (help) {
    llvm::consumeError(rest.takeError());
    llvm::outs() << usage;
    return Success;
  }
  auto wrong = [](const llvm::Twine &message) {
    llvm::errs() << "quern: error: " << message << "\n\n" << usage;
    return int(Usage);
  };
  if (!rest)
    return wrong(llvm::toString(rest.takeError()));
  if (rest->size() != 1)
    return wrong("expected one model");
  options.model = (*rest)[0];
  if (!output.empty())
    if (llvm::Error e = checkWritable(output, force))
      return fail(std::move(e));
  llvm::Expected<quantize::KernelTimes> times = [&] {
    ProgressLine line;
    if (isatty(2))
      options.progress = [&](llvm::StringRef phase, double fraction) {
        return line(phase, fraction);
      };
    return quantize::measureKernels(options);
  }();
  if (!times)
    return fail(times.takeError());
  if (!output.empty())
    if (llvm::Error e = times->write(output, force))
      return fail(std::move(e));
  llvm::outs() << times->cpu << ", " << times->target << ", " << times->threads
               << " threads\n\nformat      rows columns  microseconds   GB/s\n";
  for (const auto &kernel : times->kernels) {
    llvm::Expected<format::Spec> spec = format::parseBaseFormat(kernel.format);
    if (!spec)
      return fail(spec.takeError());
    llvm::Expected<uint64_t> bytes = format::matrixBytes(*spec, kernel.rows, kernel.columns);
    if (!bytes)
      return fail(bytes.takeError());
    llvm::outs() << llvm::left_justify(kernel.format, 7)
                 << llvm::format("%9lld %7lld %13.2f %6.1f\n", (long long)kernel.rows,
                                 (long long)kernel.columns, kernel.seconds * 1e6,
                                 double(*bytes) / kernel.seconds / 1e9);
  }
  llvm::outs() << llvm::format("\nbeside its products a token takes %.1f microseconds\n",
                               times->other * 1e6);
  return Success;
}

} // namespace quern::tool
