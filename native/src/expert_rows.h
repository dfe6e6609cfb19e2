// The operators GatherByExpert and ScatterByExpert, before and after the experts' products.
#pragma once

#include <vector>

#include "context.h"
#include "kernels.h"

// x [.., H] of T tokens, chosen [T * choices] (int64: the expert of each choice, those of one token after one another) ->
// for each of E experts the tokens that chose it, [n, H], in the order of the choices. Attributes: experts (E), choices.
class GatherByExpert {
 public:
  GatherByExpert(const Attributes& attributes, const Kernels&);
  void run(const Context& context) const;

 private:
  int64_t experts_, choices_;
};

// chosen [N], and what each of E experts made of its rows, [n, H] -> [N, H] in the order of the choices: the inverse of
// GatherByExpert for choices of 1. Attribute: experts (E).
class ScatterByExpert {
 public:
  ScatterByExpert(const Attributes& attributes, const Kernels&);
  void run(const Context& context) const;

 private:
  int64_t experts_;
};
