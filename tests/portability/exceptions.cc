/*
 * exceptions.cc - exceptions that begin in operator new and end in the program.
 *
 * Compiled with the flags of the combination under test (optimisation, LTO, hidden visibility) and
 * linked with the library in each of its forms, also all static, where nothing but the program
 * itself says which parts of libstdc++ there are. Destructors must run on the way, in containers,
 * constructors and threads; a new-handler may throw what it likes.
 */
#include <exception>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "lucid/lucid.h"

namespace {

const size_t impossible = SIZE_MAX / 2 - 100;
int alive;

struct counted {
    char *more = nullptr;
    explicit counted(size_t size)
        : more(static_cast<char *>(check_hidden(new char[check_size(size)]))) {
        alive++;
    }
    counted(counted &&other) noexcept : more(other.more) {
        other.more = nullptr;
        alive++;
    }
    counted(const counted &) = delete;
    counted &operator=(const counted &) = delete;
    ~counted() {
        delete[] more;
        alive--;
    }
};

struct refused {
    std::string why;
};

void handler_throws_own() {
    throw refused{"no memory, says the program"};
}

/* The library of the program under test, and no other malloc. */
void from_lucid() {
    int *number = new int(7);
    CHECK(lu_owns(number));
    delete number;
    std::string text(1000, 'x');
    CHECK(lu_owns(text.data()));
    check_passed("new is lucid's %s", lu_version());
}

void out_of_a_constructor() {
    bool caught = false;
    try {
        std::vector<counted> all;
        for (int i = 0; i < 100; i++) all.emplace_back(i == 77 ? impossible : (size_t)i);
    } catch (const std::bad_alloc &error) {
        caught = std::string(error.what()) == "std::bad_alloc";
    }
    CHECK(caught);
    CHECK_EQ(alive, 0);
    check_passed("bad_alloc through a vector of constructed elements: all destroyed");
}

void out_of_a_container() {
    size_t caught = 0;
    for (int i = 0; i < 100; i++) {
        std::vector<char> bytes(10);
        try {
            bytes.reserve(check_size(bytes.max_size() - (size_t)i));
        } catch (const std::bad_alloc &) {
            caught++;
        }
        CHECK_EQ(bytes.size(), 10);
    }
    CHECK_EQ(caught, 100);
    check_passed("bad_alloc out of a container, again and again");
}

void out_of_a_handler() {
    std::set_new_handler(handler_throws_own);
    for (int aligned = 0; aligned < 2; aligned++) {
        std::string why;
        try {
            void *block = aligned ? ::operator new(check_size(impossible), std::align_val_t(64))
                                  : ::operator new(check_size(impossible));
            ::operator delete(check_hidden(block));
        } catch (const refused &error) {
            why = error.why;
        }
        CHECK(why == "no memory, says the program");
    }
    std::set_new_handler(nullptr);
    check_passed("an exception of the program's own out of a new-handler");
}

void handler_throws_bad_alloc() {
    throw std::bad_alloc();
}

void not_out_of_nothrow() {
    std::set_new_handler(handler_throws_bad_alloc);
    for (int i = 0; i < 100; i++) {
        CHECK(check_hidden(new (std::nothrow) char[check_size(impossible)]) == nullptr);
        CHECK(check_hidden(::operator new(check_size(impossible), std::align_val_t(128),
                                          std::nothrow)) == nullptr);
    }
    std::set_new_handler(nullptr);
    check_passed("nothing out of the nothrow operators");
}

void out_of_a_thread() {
    std::exception_ptr carried;
    std::thread thread([&carried] {
        try {
            counted failing(impossible);
        } catch (...) {
            carried = std::current_exception();
        }
    });
    thread.join();
    CHECK(carried != nullptr);
    bool caught = false;
    try {
        std::rethrow_exception(carried);
    } catch (const std::bad_alloc &) {
        caught = true;
    }
    CHECK(caught);
    check_passed("bad_alloc carried from a thread into another");
}

} // namespace

int main() {
    from_lucid();
    out_of_a_constructor();
    out_of_a_container();
    out_of_a_handler();
    not_out_of_nothrow();
    out_of_a_thread();
    return 0;
}
