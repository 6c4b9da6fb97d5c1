"""Does a super-resolved image change what a classifier of pneumonia decides?"""
