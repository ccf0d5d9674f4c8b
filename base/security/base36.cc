#include "base/security/base36.h"

#include <algorithm>
#include <vector>

namespace muster::security {

std::string base36(std::string_view bytes, size_t width) {
  static constexpr char kDigits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
  std::vector<unsigned> number(bytes.size());
  std::transform(bytes.begin(), bytes.end(), number.begin(),
                 [](char c) { return static_cast<unsigned char>(c); });
  std::string reversed;
  // Long division by 36 until nothing is left.
  for (size_t start = 0; start < number.size();) {
    unsigned remainder = 0;
    for (size_t i = start; i < number.size(); ++i) {
      const unsigned value = remainder * 256 + number[i];
      number[i] = value / 36;
      remainder = value % 36;
    }
    reversed.push_back(kDigits[remainder]);
    while (start < number.size() && number[start] == 0) ++start;
  }
  while (reversed.size() > 1 && reversed.back() == '0') reversed.pop_back();
  if (reversed.size() < width) reversed.append(width - reversed.size(), '0');
  std::reverse(reversed.begin(), reversed.end());
  return reversed;
}

}  // namespace muster::security
