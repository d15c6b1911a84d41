/* operators.cc - each operator new and delete once, with sizes that nothing else asks for; and a
 * std::bad_alloc that passes through the recording. */
#include <cstdio>
#include <cstdint>
#include <new>

static void *keep(void *block) {
    __asm__ volatile("" : "+r"(block) : : "memory");
    return block;
}

int main() {
    const auto align = std::align_val_t(64);
    ::operator delete(keep(::operator new(7101)));
    ::operator delete[](keep(::operator new[](7103)));
    ::operator delete(keep(::operator new(7105, std::nothrow)), std::nothrow);
    ::operator delete[](keep(::operator new[](7107, std::nothrow)), std::nothrow);
    ::operator delete(keep(::operator new(7109, align)), align);
    ::operator delete[](keep(::operator new[](7111, align)), align);
    ::operator delete(keep(::operator new(7113, align, std::nothrow)), align, std::nothrow);
    ::operator delete[](keep(::operator new[](7115, align, std::nothrow)), align, std::nothrow);
    ::operator delete(keep(::operator new(7117)), std::size_t(7117));
    ::operator delete[](keep(::operator new[](7119)), std::size_t(7119));
    ::operator delete(keep(::operator new(7121, align)), std::size_t(7121), align);
    ::operator delete[](keep(::operator new[](7123, align)), std::size_t(7123), align);
    try {
        keep(::operator new(SIZE_MAX / 2 - 99));
        return 1;
    } catch (const std::bad_alloc &) {
        ::operator delete(keep(::operator new(7125)));
    }
    return 0;
}
