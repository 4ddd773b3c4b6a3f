//===- CliInfo.cpp - --info and --embed -----------------------------------===//
//
// What the program is made of, from its metadata and its program table.
//
//===----------------------------------------------------------------------===//
#include "Cli.h"
#include "quern/Runtime/Cpu.h"
#include <cmath>
#include <cstdio>

namespace quern::runtime::cli {

static std::string withUnit(double bytes) {
  const char *units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  for (; bytes >= 1024 && unit < 4; ++unit)
    bytes /= 1024;
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, unit ? "%.2f %s" : "%.0f %s", bytes, units[unit]);
  return buffer;
}

static std::string shapeText(const Json &shape) {
  std::string out;
  for (const Json &d : shape.items())
    out += (out.empty() ? "" : "x") + std::to_string(int64_t(d.asNumber()));
  return out;
}

static Json report(const Model &model) {
  const Engine &engine = *model.engine;
  const quern_program &p = engine.program();
  Json targets = Json::array();
  for (uint32_t i = 0; i < p.target_count; ++i) {
    Json missing = Json::array();
    for (const std::string &m : missingFeatures(p.targets[i].features))
      missing.push(m);
    targets.push(Json::object()
                     .set("name", p.targets[i].name)
                     .set("chosen", &p.targets[i] == &engine.target())
                     .set("missing", std::move(missing)));
  }
  Json out = Json::object();
  out.set("program", Json::object()
                         .set("vocab", p.vocab_size)
                         .set("width", p.width)
                         .set("context", p.context)
                         .set("max_tokens", p.max_tokens)
                         .set("cache_bytes", p.cache_bytes)
                         .set("scratch_bytes", p.scratch_bytes)
                         .set("weight_bytes",
                              uint64_t(engine.payload().section(WeightSection).size()))
                         .set("cpu", cpuName())
                         .set("threads", model.engine->threads().size())
                         .set("targets", std::move(targets)));
  out.set("model", model.metadata);
  return out;
}

Status info(Model &model, const Options &options) {
  Json r = report(model);
  if (options.json) {
    std::printf("%s\n", r.print().c_str());
    return {};
  }
  const Json &p = r["program"], &m = model.metadata;
  const std::string &name = m["name"].asString(), &architecture = m["architecture"].asString();
  std::printf("model        %s\n",
              (name.empty() ? architecture : name + " (" + architecture + ")").c_str());
  std::printf("context      %lld tokens, %s of KV cache (%s) a sequence\n",
              static_cast<long long>(p["context"].asNumber()),
              withUnit(p["cache_bytes"].asNumber()).c_str(), m["kv_cache"].asString().c_str());
  std::printf("memory       %s weights, %s scratch\n", withUnit(p["weight_bytes"].asNumber()).c_str(),
              withUnit(p["scratch_bytes"].asNumber()).c_str());
  std::printf("cpu          %s, %d threads\n", p["cpu"].asString().c_str(),
              int(p["threads"].asNumber()));
  for (const Json &t : p["targets"].items()) {
    std::string missing;
    for (const Json &f : t["missing"].items())
      missing += " " + f.asString();
    std::printf("target       %-16s %s%s\n", t["name"].asString().c_str(),
                t["chosen"].asBool() ? "in use" : missing.empty() ? "fits" : "lacks",
                missing.c_str());
  }
  std::printf("\n%-34s %-14s %-28s %6s %11s %-9s %-11s %s\n", "tensor", "shape", "format", "bits",
              "bytes", "layout", "activations", "kernel");
  double bytes = 0, elements = 0;
  for (const Json &t : m["tensors"].items()) {
    std::printf("%-34s %-14s %-28s %6.2f %11.0f %-9s %-11s %s\n", t["name"].asString().c_str(),
                shapeText(t["shape"]).c_str(), t["format"].asString().c_str(),
                t["bits"].asNumber(), t["bytes"].asNumber(), t["layout"].asString().c_str(),
                t["activations"].asString().c_str(), t["kernel"].asString().c_str());
    bytes += t["bytes"].asNumber();
    double count = 1;
    for (const Json &d : t["shape"].items())
      count *= d.asNumber();
    elements += count;
  }
  if (elements)
    std::printf("\n%.1f M parameters, %s, %.3f bits each\n", elements / 1e6,
                withUnit(bytes).c_str(), bytes * 8 / elements);
  return {};
}

Status embed(Model &model, const Options &options) {
  std::vector<int32_t> ids;
  if (Status s = promptTokens(model, options, ids); s.failed())
    return s;
  int32_t sequence;
  if (Status s = model.engine->newSequence(sequence); s.failed())
    return s;
  size_t width = size_t(model.engine->program().width);
  std::vector<double> sum(width);
  size_t first = options.meanPooling ? 0 : ids.size() - 1;
  Status s = model.engine->embed(sequence, ids, first, [&](size_t, const float *row) {
    for (size_t i = 0; i < width; ++i)
      sum[i] += row[i];
  });
  if (s.failed())
    return s;
  Json values = Json::array();
  for (double v : sum)
    values.push(double(float(v / double(ids.size() - first))));
  if (options.json) {
    std::printf("%s\n", Json::object()
                            .set("tokens", uint64_t(ids.size()))
                            .set("embedding", std::move(values))
                            .print()
                            .c_str());
    return {};
  }
  for (const Json &v : values.items())
    std::printf("%.9g\n", v.asNumber());
  return {};
}

} // namespace quern::runtime::cli
