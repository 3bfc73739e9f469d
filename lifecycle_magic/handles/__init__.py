"""The handles in user code: of classes, instances, methods and functions.

Model            Cls       replaces the class in its namespace
Model("small")   Obj       an instance that lives in containers
.predict         Method    .remote(...), .local(...), .map(...), ...
square           Function  replaces the function in its namespace
"""
