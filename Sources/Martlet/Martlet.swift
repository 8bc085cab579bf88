// Everything that a program of one's own needs, under one import.
@_exported import Bijectors
@_exported import CPU
@_exported import Compiler
@_exported import Datasets
@_exported import Distributions
@_exported import Graph
@_exported import Lab
@_exported import Layers
@_exported import Likelihood
@_exported import Models
@_exported import OpenCL
@_exported import Training
