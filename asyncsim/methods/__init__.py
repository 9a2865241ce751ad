"""The literature's names: each is a short bundle of a policy, a consistency rule and a program."""

from asyncsim.methods import local, pipelines, replicas
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.methods.replicas import ASGD

__all__ = ["ASGD", "Bundle", "Method", "local", "methods", "pipelines", "replicas"]
