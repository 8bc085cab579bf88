// Nothing is called from outside: the program under test opens the library as its OpenCL loader.
#pragma once
