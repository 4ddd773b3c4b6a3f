//===- Compare.cpp - How well providers order what is measured ------------===//
//
// Every candidate of every tensor is measured by itself; see Quantize.h.
//
//===----------------------------------------------------------------------===//
#include "Quantization.h"

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
namespace json = llvm::json;

Expected<json::Object> Quantization::compare() {
  if (Error e = prepare(/*measures=*/true))
    return std::move(e);
  std::vector<double> measured;
  std::vector<std::string> formats;
  std::vector<std::vector<double>> expected(providers().size());
  size_t done = 0, count = candidates->tensors.size();
  for (Tensor &tensor : candidates->tensors) {
    if (Error e = step("compare", double(done++) / double(count)))
      return std::move(e);
    for (Candidate &candidate : tensor.candidates) {
      if (Error e = measureCandidate(tensor, candidate))
        return std::move(e);
      measured.push_back(candidate.kl);
      formats.push_back(candidate.name);
    }
    Subject subject = subjectOf(tensor);
    for (auto [p, info] : llvm::enumerate(providers())) {
      Losses losses = info.run(subject);
      if (!losses)
        return createStringError("tensor '" + tensor.name + "', provider '" + info.name +
                                 "': " + llvm::toString(losses.takeError()));
      llvm::append_range(expected[p], *losses);
    }
  }
  json::Object out;
  for (auto [p, info] : llvm::enumerate(providers())) {
    // Over all candidates the number of bits alone says much; within one format it says nothing.
    double within = 0;
    std::vector<std::string> seen;
    for (const std::string &format : formats) {
      if (llvm::is_contained(seen, format))
        continue;
      seen.push_back(format);
      std::vector<double> a, b;
      for (size_t i = 0; i < formats.size(); ++i)
        if (formats[i] == format) {
          a.push_back(expected[p][i]);
          b.push_back(measured[i]);
        }
      within += rankCorrelation(a, b);
    }
    out[info.name] = json::Object{{"all", rankCorrelation(expected[p], measured)},
                                  {"within", within / double(std::max<size_t>(1, seen.size()))}};
  }
  return json::Object{{"candidates", int64_t(measured.size())},
                      {"tokens", int64_t(windows.tokens.size())},
                      {"providers", std::move(out)}};
}

Expected<json::Object> quern::quantize::compareProviders(const QuantizeOptions &options) {
  return Quantization(options).compare();
}
