from .build import build_loader as build_loader
