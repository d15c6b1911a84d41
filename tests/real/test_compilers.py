"""gcc and g++ on generated sources: the same object files, and programs that give the same output.

The C source is wide (hundreds of functions and types), the C++ source deep (templates of the
standard library). cc1, cc1plus, as, collect2 and ld all run on the library.
"""

import os
import random

import realtest

C_HEAD = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef unsigned long word;
"""

CXX_HEAD = """
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>
template <int N> struct fib { static constexpr long v = fib<N - 1>::v + fib<N - 2>::v; };
template <> struct fib<0> { static constexpr long v = 0; };
template <> struct fib<1> { static constexpr long v = 1; };
using value = std::variant<int, double, std::string, std::vector<int>>;
template <class... T> struct visitor : T... { using T::operator()...; };
template <class... T> visitor(T...) -> visitor<T...>;
"""


def c_function(i, source):
    """One function with a struct, a switch, loops, strings and a call of an earlier function."""
    fields = "".join(f"    int f{j}; char s{j}[{source.randrange(1, 40)}];\n"
                     for j in range(source.randrange(2, 9)))
    cases = "".join(f"    case {j}: x = (x << {source.randrange(1, 9)}) ^ {source.getrandbits(60)}u"
                    f" ^ (x >> {source.randrange(1, 20)}); break;\n"
                    for j in range(source.randrange(3, 20)))
    earlier = f"x += call{source.randrange(i)}(x & 255, depth - 1);" if i else "x += 1;"
    return f"""
struct type{i} {{
{fields}    struct type{i} *next;
}};
static word call{i}(word x, int depth)
{{
    struct type{i} item = {{0}}, *list = &item;
    char text[64];
    switch (x % {len(cases.splitlines())}) {{
{cases}    default: x = ~x;
    }}
    for (int k = 0; k < (int)(x % 7); k++) {{
        list->f0 += k * {i};
        snprintf(text, sizeof text, "function {i} of %d: %lu", k, x);
        for (char *p = text; *p; p++)
            x = x * 31 + (unsigned char)*p;
    }}
    if (depth > 0 && (x & 1))
        {earlier}
    return x + (word)item.f0;
}}
"""


def c_source(count):
    source = random.Random(11)
    parts = [C_HEAD] + [c_function(i, source) for i in range(count)]
    table = ", ".join(f"call{i}" for i in range(count))
    parts.append(f"""
static word (*const table[])(word, int) = {{{table}}};
int main(void)
{{
    word sum = 0;
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
        printf("%u %lu\\n", i, sum += table[i](i * 977, 20));
    return 0;
}}
""")
    return "".join(parts)


def cxx_source(count):
    parts = [CXX_HEAD]
    for i in range(count):
        parts.append(f"""
namespace part{i} {{
struct key {{ int a; std::string b; auto tied() const {{ return std::tie(a, b); }}
    bool operator<(const key &o) const {{ return tied() < o.tied(); }} }};
std::map<key, std::vector<std::unique_ptr<value>>> make(int n) {{
    std::map<key, std::vector<std::unique_ptr<value>>> all;
    for (int i = 0; i < n; i++) {{
        auto &list = all[key{{i % {7 + i}, std::to_string(i * {i + 3} % 13)}}];
        list.push_back(std::make_unique<value>(i));
        list.push_back(std::make_unique<value>(std::string(i % 50, 'a' + i % 26)));
        list.push_back(std::make_unique<value>(std::vector<int>(i % 9, i)));
    }}
    return all;
}}
long run(int n) {{
    long sum = fib<{20 + i}>::v;
    std::function<void(const value &)> add = [&](const value &v) {{
        std::visit(visitor{{[&](int x) {{ sum += x; }}, [&](double x) {{ sum += long(x); }},
            [&](const std::string &s) {{ sum += long(s.size()) * {i}; }},
            [&](const std::vector<int> &s) {{ sum = std::accumulate(s.begin(), s.end(), sum); }}
        }}, v);
    }};
    for (auto &[k, list] : make(n)) for (auto &v : list) add(*v);
    std::unordered_map<std::string, std::set<long>> index;
    std::regex word("([a-z]+)-([0-9]{{{1 + i % 3}}})");
    for (int i = 0; i < n / 4; i++) {{
        std::string text = "part{i}-" + std::to_string(i); std::smatch m;
        if (std::regex_search(text, m, word)) index[m[1].str()].insert(i % 100);
    }}
    for (auto &[k, s] : index) sum += long(s.size());
    return sum;
}}
}}
""")
    calls = "".join(f'    out << "{i} " << part{i}::run(3000) << "\\n";\n' for i in range(count))
    parts.append(f"int main() {{\n    std::ostringstream out;\n{calls}"
                 "    std::cout << out.str();\n}\n")
    return "".join(parts)


class Compilers(realtest.RealTest):
    def compile(self, compiler, source, text, tools, *options):
        """Compile and link on both sides and compare all; returns what the program printed."""
        def work(side, directory):
            realtest.write(text, directory, source)
            # Debug information names the directory, which is not the same on both sides.
            same = [f"-ffile-prefix-map={directory}=."] if "-g" in options else []
            done = side.run([compiler, *options, *same, "-c", source, "-o", "part.o"], directory,
                            timeout=180)
            done.programs += side.run([compiler, *options, "part.o", "-o", "program"], directory,
                                      timeout=180).programs
            for tool in tools:
                self.assertIn(tool, done.programs, f"programs that ran: {done.programs}")
            output = side.run([os.path.join(directory, "program")], directory).out
            # An object for link-time optimisation names the directory in its packed sections.
            files = ["program"] if "-flto" in options else ["part.o", "program"]
            return [realtest.file_sha256(directory, file) for file in files], output, done.err
        _, output, _ = self.assert_same(work)
        return output

    def compile_c(self, count, *options):
        gcc = realtest.program("gcc", "gcc")
        realtest.program("as", "binutils")
        realtest.program("ld", "binutils")
        output = self.compile(gcc, "source.c", c_source(count), ["cc1", "as", "collect2", "ld"],
                              *options)
        self.assertEqual(len(output.splitlines()), count)

    def compile_cxx(self, count, *options):
        gxx = realtest.program("g++", "g++")
        output = self.compile(gxx, "source.cc", cxx_source(count),
                              ["cc1plus", "as", "collect2", "ld"], "-std=c++17", *options)
        self.assertEqual(len(output.splitlines()), count)

    def test_c_unoptimised(self):
        self.compile_c(500, "-O0", "-g")

    def test_c_optimised(self):
        self.compile_c(120, "-O2")

    def test_c_at_link_time(self):
        self.compile_c(60, "-O2", "-flto", "-frandom-seed=1")

    def test_cxx_unoptimised(self):
        self.compile_cxx(2, "-O0", "-g")

    def test_cxx_optimised(self):
        self.compile_cxx(1, "-O2")


if __name__ == "__main__":
    realtest.main()
