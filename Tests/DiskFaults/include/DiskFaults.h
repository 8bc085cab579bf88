// Nothing is called from outside: the library is preloaded into the program under test.
#pragma once
